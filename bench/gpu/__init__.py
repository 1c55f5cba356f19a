"""Prove and measure the GPU path by one command: `python -m bench.gpu`."""
