"""Decode and encode picture files."""
