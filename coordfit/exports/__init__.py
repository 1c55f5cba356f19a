"""Write fitted models for other programs: one file for each format."""
