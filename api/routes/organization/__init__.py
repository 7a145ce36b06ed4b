"""Routes under ``/v1/organization``, and ``/v1/me``."""
