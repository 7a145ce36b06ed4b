"""Resolution of `auto` hyperparameters."""
