"""Fit pictures that are dropped on a local page, and show them beside each other."""

from .server import Demo

__all__ = ["Demo"]
