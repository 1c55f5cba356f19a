"""Measure seconds and pixel visits to a PSNR: our recipes, and the paper's and a tuned Adam in PyTorch."""
