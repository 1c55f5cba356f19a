"""Measure seconds and pixel visits to a PSNR: the paper's recipe, a tuned Adam and ours, in coordfit and in PyTorch."""
