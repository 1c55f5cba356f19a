"""What there is to know about the GPU path, from one command: `python -m bench.gpu`."""
