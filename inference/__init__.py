"""Serving of base and tuned models."""

# Before PEFT: see there.
import training  # noqa: F401
