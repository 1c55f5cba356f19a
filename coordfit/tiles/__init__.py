"""Whole photographs as a batch of small networks, one for each tile of the picture."""
