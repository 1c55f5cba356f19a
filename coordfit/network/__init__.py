"""The network: activations, losses, initial weights, the flat parameter buffer and the MLP."""
