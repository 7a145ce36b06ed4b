"""Bodies of the health routes."""

from __future__ import annotations

from typing import Literal

from api.schemas.base import ResponseModel


class Liveness(ResponseModel):
    """The process is running."""

    status: Literal["ok"] = "ok"


class Readiness(ResponseModel):
    """Readiness of the server and of the services it uses."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Literal["ok", "down"]]
    """Service -> ``ok`` or ``down``."""
