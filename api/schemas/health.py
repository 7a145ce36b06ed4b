"""Health on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Liveness(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """``checks``: part -> ``ok`` or ``down``."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Literal["ok", "down"]]
