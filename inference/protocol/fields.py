"""What bodies are made of: bounded fields, and OpenAI's fields that have no effect here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Label = Annotated[str, StringConstraints(max_length=512)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


_TAGS: Mapping[type, str] = {list: "~list", dict: "~object"}


def _shape(value: Any) -> str:
    return _TAGS.get(type(value), "~text")


SHAPE = Discriminator(_shape)
"""Chooses a union's branch by JSON type, so that a fault is that branch's; the tags' ``~`` keeps them out of paths."""

_LISTS: Mapping[type, str] = {int: "~tokens", list: "~lists"}


def _texts_or_tokens(value: Any) -> str:
    if not isinstance(value, list):
        return "~text"
    return _LISTS.get(type(value[0]), "~texts") if value else "~texts"


TEXTS_OR_TOKENS = Discriminator(_texts_or_tokens)
"""Likewise between a text, texts, a text's token ids and several texts' (tags ``~text ~texts ~tokens ~lists``)."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=10_000_000)]], Field(min_length=1, max_length=1_000_000)]

MAX_PROMPTS = 256


class Body(BaseModel):
    """A request's. Nothing unknown, no number in a string, no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def example(*others: Any, **body: Any) -> ConfigDict:
    """A body's ``model_config`` that shows one in the OpenAPI document, and ``others`` behind it."""
    return ConfigDict(json_schema_extra={"examples": [body, *others]})


def _absent(value: Any) -> bool:
    return value is None or value == [] or value == {}


def _is(*harmless: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or value in harmless


HARMLESS: Mapping[str, Callable[[Any], bool]] = {
    "audio": _absent,
    "function_call": _is("none", "auto"),
    "functions": _absent,
    "modalities": _is(["text"]),
    "moderation": _absent,
    "store": _is(False),
    "suffix": _is(""),
    "web_search_options": lambda value: value is None,
}
"""Field whose effect would be missed -> the values of it that ask for nothing."""

_REMEDIES = {
    "functions": "is not supported here; send the functions as 'tools'",
    "function_call": "is not supported here; use 'tools' and 'tool_calls'",
}


def refuse(value: Any, info: ValidationInfo) -> Any:
    if not HARMLESS[info.field_name or ""](value):
        remedy = _REMEDIES.get(info.field_name or "", "is not supported here; remove it")
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' {remedy}.", {"field": info.field_name, "remedy": remedy}
        )
    return value


def listed(value: str | list[Any]) -> list[Any]:
    """Texts, or lists of token ids, of a field that may hold one of them."""
    return [value] if isinstance(value, str) or type(value[0]) is int else value
