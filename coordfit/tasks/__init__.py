"""The public verbs, one file each, and what they share."""
