"""Column types shared by tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column


def json_column(nullable: bool = False) -> Any:
    return Column(JSON(none_as_null=True), nullable=nullable)
