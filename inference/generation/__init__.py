"""Continuous batching for autoregressive models: requests, scheduler, model runner, sampling."""
