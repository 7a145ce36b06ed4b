"""Base models: support, loading, layer blocks, experts, log-probabilities and saved weights."""
