"""Tiny random models of the architectures that people fine-tune, with their chat templates and
tokenizer quirks."""
