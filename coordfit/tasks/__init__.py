"""The public verbs, one file each, and the folders that they write."""
