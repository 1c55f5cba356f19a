"""Fitted functions: evaluate, render, save."""
