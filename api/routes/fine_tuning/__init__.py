"""Routes under ``/v1/fine_tuning``."""
