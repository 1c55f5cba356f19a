"""Time our step beside PyTorch's and JAX's: the same work, in one process for each, in turns.

python -m bench.peers --json FILE    # all cases and peers; needs torch and jax (pip install -e . --group peers)
python -m bench.peers --cases 128-full-256 --peers coordfit torch-whole
"""
