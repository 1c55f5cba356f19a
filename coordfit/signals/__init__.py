"""Signals: values on a grid of any number of axes, or at scattered points."""
