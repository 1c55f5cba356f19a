"""Training pixels: coordinates, targets, weights, and the order of batches."""
