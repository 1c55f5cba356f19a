"""Encoders: coordinates to features, one file each."""
