"""Seconds and pixel visits until a picture is right: recipes, and the paper's and a tuned Adam in PyTorch."""
