"""Base models: loading, layer blocks, log-probabilities and saved weights."""
