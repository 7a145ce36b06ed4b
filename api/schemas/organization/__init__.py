"""Bodies of the routes under ``/v1/organization`` and of ``/v1/me``."""
