"""Training loop: setup, gradients, evaluation, checkpoints."""
