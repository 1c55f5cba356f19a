"""Hidden pixels filled by kriging or by a network, and the figures of both."""
