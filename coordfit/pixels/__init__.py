"""Training pixels: where they are, what they weigh, and the order in which batches take them."""
