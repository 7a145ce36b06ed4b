"""The result of a run: files, metadata, and loading it to serve."""
