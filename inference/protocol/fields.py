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


_TAG_BY_TYPE: Mapping[type, str] = {list: "~list", dict: "~object"}


def _tag_by_json_type(value: Any) -> str:
    return _TAG_BY_TYPE.get(type(value), "~text")


JSON_TYPE_DISCRIMINATOR = Discriminator(_tag_by_json_type)
"""Chooses a union's branch by JSON type, so that a fault is that branch's; the tags' ``~`` keeps them out of paths."""

_TAG_BY_ITEM_TYPE: Mapping[type, str] = {int: "~tokens", list: "~lists"}


def _tag_texts_or_tokens(value: Any) -> str:
    if not isinstance(value, list):
        return "~text"
    return _TAG_BY_ITEM_TYPE.get(type(value[0]), "~texts") if value else "~texts"


TEXTS_OR_TOKENS_DISCRIMINATOR = Discriminator(_tag_texts_or_tokens)
"""Likewise between a text, texts, a text's token ids and several texts' (tags ``~text ~texts ~tokens ~lists``)."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=10_000_000)]], Field(min_length=1, max_length=1_000_000)]

MAX_PROMPTS = 256


class StrictModel(BaseModel):
    """A request's. Nothing unknown, no number in a string, no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def config_with_examples(*more_examples: Any, **body: Any) -> ConfigDict:
    """A body's ``model_config`` that shows one in the OpenAPI document, and ``others`` behind it."""
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
"""Field whose effect would be missed -> the values of it that ask for nothing."""

_REMEDIES = {
    "functions": "is not supported here; send the functions as 'tools'",
    "function_call": "is not supported here; use 'tools' and 'tool_calls'",
}


def reject_unsupported(value: Any, info: ValidationInfo) -> Any:
    if not UNSUPPORTED_FIELDS[info.field_name or ""](value):
        remedy = _REMEDIES.get(info.field_name or "", "is not supported here; remove it")
        raise PydanticCustomError(
            "unsupported_parameter", "'{field}' {remedy}.", {"field": info.field_name, "remedy": remedy}
        )
    return value


def to_input_list(value: str | list[Any]) -> list[Any]:
    """Texts, or lists of token ids, of a field that may hold one of them."""
    return [value] if isinstance(value, str) or type(value[0]) is int else value
