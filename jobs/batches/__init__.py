"""Batches: files of requests, whose responses the engine writes to output files."""
