"""Optimizers on the flat parameter buffer, one file each, and learning-rate schedules."""
