"""What every body that a client sends has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError


class StrictModel(BaseModel):
    """Unknown fields are refused, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _reject_unsupported(value: Any, info: ValidationInfo) -> Any:
    if value is not None:
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' is not supported here; remove it.", {"field": info.field_name}
        )
    return value


Unsupported = Annotated[None, BeforeValidator(_reject_unsupported)]
"""Of a field that OpenAI documents and whose effect would be missed: null asks for nothing."""
