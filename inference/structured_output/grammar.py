"""Grammars for constrained decoding: JSON that matches a schema, a tool call, or either.

The syntax is llguidance's Lark
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md), which accepts JSON Schema as
the body of a rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.tasks.chat_format.tool_calls import ID_PATTERN, NAME_PATTERN, FormatPart, ToolCallFormat
from training.tasks.support.special_tokens import MARKER_CHARACTER, compile_names, escape_special_tokens

Schema = Mapping[str, Any]

# Mistral's templates accept only ids of nine letters and digits.
_ID_PATTERN = "/[a-zA-Z0-9]{9}/"

# Allows a line break with indentation. Without a limit a model can generate whitespace
# indefinitely.
_JSON_OPTIONS = {"whitespace_pattern": r" |\n {0,24}"}


# If only one text can follow, llguidance forces the tokens of its own tokenizer. For the name of a
# special token in a schema, that is the special token itself. For schemas with such names, forcing
# is off and the model spells the text.
_NO_FORCING = '%llguidance {"no_forcing": true}'


@dataclass(frozen=True)
class FieldSchema:
    """JSON Schema, and the field of the request body that contains it."""

    schema: Schema
    param: str


@dataclass(frozen=True)
class StructuredOutput:
    """Constraint on the output: JSON of ``content_schema``, or one call of a function in
    ``tool_schemas``."""

    content_schema: FieldSchema | None = None
    tool_schemas: Mapping[str, FieldSchema] = field(default_factory=dict)
    """Function name -> schema of its arguments."""

    @property
    def param(self) -> str:
        """Field of the request body that requests the constraint."""
        return self.content_schema.param if self.content_schema else "tools"


@dataclass(frozen=True)
class OutputFrame:
    """Text of the chat template around the constrained output."""

    start: str = ""
    """Text that precedes content and calls, such as the end of an empty reasoning."""
    content_start: str = ""
    """Text that precedes content, such as the header of GPT-OSS' final channel."""


NO_FRAME = OutputFrame()


class GrammarWriter:
    """Writer of grammars for one tokenizer.

    In tool calls, special tokens are written as tokens, not as text.
    """

    def __init__(self, tokenizer: Any) -> None:
        added_tokens = tokenizer.added_tokens_decoder.items()
        self._special_token_ids = {token.content: id for id, token in added_tokens if len(token.content.strip()) > 1}
        self._special_token_pattern = compile_names(list(self._special_token_ids))

    def write(
        self, constraint: StructuredOutput, call_format: ToolCallFormat | None, frame: OutputFrame = NO_FRAME
    ) -> str:
        """Return the grammar's text.

        ``call_format`` may be None if the constraint has no tool schemas.
        """
        rules: dict[str, str] = {}
        outputs = []
        if constraint.content_schema is not None:
            outputs.append("answer")
            rules["answer"] = " ".join([*self._render_text(frame.content_start), "content"])
            rules["content"] = _build_json_rule(constraint.content_schema.schema)
        for index, (function_name, arguments) in enumerate(constraint.tool_schemas.items()):
            assert call_format is not None
            outputs.append(f"call_{index}")
            # The prefix of JSON arguments ends with their opening brace, which belongs to the
            # schema here.
            prefix = call_format.prefix if call_format.parameters else call_format.prefix[:-1]
            body, argument_rules = self._write_arguments(f"arguments_{index}", arguments.schema, call_format)
            parts = [
                *self._render_parts(prefix, function_name),
                *body,
                *self._render_parts(call_format.suffix, function_name),
            ]
            rules |= {f"call_{index}": " ".join(parts), **argument_rules}
        start = " ".join([*self._render_text(frame.start), f"({' | '.join(outputs)})"])
        lines = [f"{rule}: {body}" for rule, body in {"start": start, **rules, "ID": _ID_PATTERN}.items()]
        schemas = [schema.schema for schema in (constraint.content_schema, *constraint.tool_schemas.values()) if schema]
        return "\n".join(
            [*([_NO_FORCING] if escape_special_tokens(schemas, self._special_token_pattern) != schemas else []), *lines]
        )

    def _write_arguments(
        self, rule: str, schema: Schema, call_format: ToolCallFormat
    ) -> tuple[list[str], dict[str, str]]:
        """Return the terms of the arguments and the rules that the terms name."""
        shape = call_format.parameters
        if shape is None:
            return [rule], {rule: _build_json_rule(schema)}
        terms, rules = [], dict[str, str]()
        required = schema.get("required") or ()
        definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        for index, (name, value) in enumerate((schema.get("properties") or {}).items()):
            value_rule = f"{rule}_{index}"
            element = [*self._render_text(f"{shape.opening}{name}{shape.middle}"), value_rule]
            if isinstance(value, Mapping) and value.get("type") == "string" and "enum" not in value:
                # The value is raw text, so it ends with the closing tag.
                rules[f"{value_rule}[suffix={json.dumps(shape.closing)}]"] = "/(?s:.*)/"
            elif isinstance(value, Mapping) and value.get("type") == "string":
                rules[value_rule] = " | ".join(json.dumps(f"{choice}{shape.closing}") for choice in value["enum"])
            else:
                value_schema = {**value, **definitions} if isinstance(value, Mapping) else {}
                rules[value_rule] = _build_json_rule(value_schema)
                element += self._render_text(shape.closing)
            group = f"({' '.join(element)})"
            terms.append(group if name in required else f"{group}?")
        return terms, rules

    def _render_text(self, text: str) -> Iterator[str]:
        return self._render_parts([text] if text else [], "")

    def _render_parts(self, parts: Sequence[FormatPart], function_name: str) -> Iterator[str]:
        """Iterate over the terms of a rule's body for these parts of the call format."""
        values: Mapping[FormatPart, str] = {NAME_PATTERN: function_name, ID_PATTERN: MARKER_CHARACTER}
        text = "".join(str(values.get(part, part)) for part in parts)
        for segment in re.split(f"({MARKER_CHARACTER}|{self._special_token_pattern.pattern})", text):
            if segment in self._special_token_ids:
                yield f"<[{self._special_token_ids[segment]}]>"
            elif segment == MARKER_CHARACTER:
                yield "ID"
            elif segment:
                yield json.dumps(segment, ensure_ascii=False)


def _build_json_rule(schema: Schema) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"
