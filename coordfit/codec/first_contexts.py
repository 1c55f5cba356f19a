"""First weights of the context network."""

FRACTION_BITS = 8
UNITS = 0
WEIGHTS = ""
