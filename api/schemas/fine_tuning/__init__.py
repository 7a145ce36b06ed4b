"""Bodies of the routes under ``/v1/fine_tuning``."""
