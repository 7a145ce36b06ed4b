"""Batched forward passes for classifiers, regressors and embedders."""
