"""Training of a pyramid of latents, its decoder and its context network for one picture, gradients by hand."""
