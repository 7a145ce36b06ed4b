"""What every body that a client sends has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError


class In(BaseModel):
    """Unknown fields are refused, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _refused(value: Any, info: ValidationInfo) -> Any:
    if value is not None:
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' is not supported here; remove it.", {"field": info.field_name}
        )
    return value


Missed = Annotated[None, BeforeValidator(_refused)]
"""Of a field that OpenAI documents and whose effect would be missed: null asks for nothing."""
