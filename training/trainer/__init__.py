"""The training loop and what it needs: setup, gradients, evaluation, checkpoints."""
