"""Training metrics: recorded steps, result files and TensorBoard events."""
