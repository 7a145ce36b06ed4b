"""Dataset validation, scanning, encoding and batch sampling."""
