"""Batches: a file of requests, answered by the engine into another file."""
