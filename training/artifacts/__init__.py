"""Result of a run: its files, its metadata, and loading it for serving."""
