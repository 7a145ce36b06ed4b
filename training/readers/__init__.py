"""Readers: dataset files to raw rows."""
