"""Request and response models, one per module."""
