"""Base model and types of request bodies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError


class ResponseModel(BaseModel):
    """Base of response bodies. Attribute docstrings become the descriptions in OpenAPI."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class StrictModel(BaseModel):
    """Base of request bodies: rejects unknown fields and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _reject_unsupported(value: Any, info: ValidationInfo) -> Any:
    if value is not None:
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' is not supported here; remove it.", {"field": info.field_name}
        )
    return value


Unsupported = Annotated[None, BeforeValidator(_reject_unsupported)]
"""Type of an OpenAI field that Luthier does not support. Only null, which has no effect, is
valid."""
