"""The commands, one file each, imported when they run."""
