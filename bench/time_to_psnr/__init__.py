"""Measure seconds and pixel visits to a PSNR: the paper's recipe, tuned Adam, and ours, in both libraries."""
