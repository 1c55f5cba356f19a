"""Training: one step, the loop around it, and everything that belongs to a run."""
