"""Field types shared by request bodies, and checks of OpenAI's unsupported fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

Text = Annotated[str, StringConstraints(max_length=1_000_000)]
ShortText = Annotated[str, StringConstraints(max_length=512)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")]
ShortKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]


_TAG_BY_TYPE: Mapping[type, str] = {list: "~list", dict: "~object"}


def _tag_by_json_type(value: Any) -> str:
    return _TAG_BY_TYPE.get(type(value), "~text")


TEXT_OR_LIST_DISCRIMINATOR = Discriminator(
    _tag_by_json_type, custom_error_type="invalid_value", custom_error_message="it must be a string or an array"
)
"""Selects a union's branch by JSON type (tags ``~text ~list``): only its errors are reported.

The ``~`` keeps tags out of the paths of errors. The custom message keeps this module's names out of
error messages.
"""
TEXT_OR_OBJECT_DISCRIMINATOR = Discriminator(
    _tag_by_json_type, custom_error_type="invalid_value", custom_error_message="it must be a string or an object"
)
"""Selects a union's branch by JSON type (tags ``~text ~object``)."""

_TAG_BY_ITEM_TYPE: Mapping[type, str] = {int: "~tokens", list: "~lists"}


def _tag_texts_or_tokens(value: Any) -> str:
    if not isinstance(value, list):
        return "~text"
    return _TAG_BY_ITEM_TYPE.get(type(value[0]), "~texts") if value else "~texts"


TEXTS_OR_TOKENS_DISCRIMINATOR = Discriminator(
    _tag_texts_or_tokens,
    custom_error_type="invalid_value",
    custom_error_message="it must be a string, an array of strings, an array of token ids or an array of such arrays",
)
"""Selects a union's branch for one or several texts, or the token ids of one or several texts.

The tags are ``~text ~texts ~tokens ~lists``.
"""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=10_000_000)]], Field(min_length=1, max_length=1_000_000)]


class StrictModel(BaseModel):
    """Base of request models. Rejects unknown fields, numbers in strings, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


def config_with_examples(*more_examples: Any, **body: Any) -> ConfigDict:
    """Build a ``model_config`` whose OpenAPI schema has the examples ``body`` and
    ``more_examples``."""
    return ConfigDict(json_schema_extra={"examples": [body, *more_examples]})


def _is_absent(value: Any) -> bool:
    return value is None or value == [] or value == {}


def _allow_only(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or value in allowed


UNSUPPORTED_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "audio": _is_absent,
    "function_call": _allow_only("none", "auto"),
    "functions": _is_absent,
    "modalities": _allow_only(["text"]),
    "moderation": _is_absent,
    "store": _allow_only(False),
    "suffix": _allow_only(""),
    "web_search_options": lambda value: value is None,
}
"""Unsupported field -> predicate for values that have no effect and are therefore accepted."""

_REMEDIES = {
    "functions": "is not supported here; send the functions as 'tools'",
    "function_call": "is not supported here; use 'tools' and 'tool_calls'",
}


def reject_unsupported(value: Any, info: ValidationInfo) -> Any:
    """Return the value of an unsupported field.

    Raises ``unsupported_parameter`` if it requests an effect.
    """
    if not UNSUPPORTED_FIELDS[info.field_name or ""](value):
        remedy = _REMEDIES.get(info.field_name or "", "is not supported here; remove it")
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' {remedy}.", {"field": info.field_name, "remedy": remedy}
        )
    return value


def to_input_list(value: str | list[Any]) -> list[Any]:
    """Wrap a single text or a single list of token ids in a list."""
    return [value] if isinstance(value, str) or type(value[0]) is int else value
