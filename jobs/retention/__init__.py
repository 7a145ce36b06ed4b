"""Deletion of blobs and rows that are no longer needed."""
