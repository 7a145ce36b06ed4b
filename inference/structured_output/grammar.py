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


class GrammarWriter:
    """Writer of grammars for one tokenizer.

    In tool calls, special tokens are written as tokens, not as text.
    """

    def __init__(self, tokenizer: Any) -> None:
        added_tokens = tokenizer.added_tokens_decoder.items()
        self._special_token_ids = {token.content: id for id, token in added_tokens if len(token.content.strip()) > 1}
        self._special_token_pattern = compile_names(list(self._special_token_ids))

    def write(self, constraint: StructuredOutput, call_format: ToolCallFormat | None) -> str:
        """Return the grammar's text.

        ``call_format`` may be None if the constraint has no tool schemas.
        """
        rules = (
            {} if constraint.content_schema is None else {"answer": _build_json_rule(constraint.content_schema.schema)}
        )
        for index, (function_name, arguments) in enumerate(constraint.tool_schemas.items()):
            assert call_format is not None
            # The prefix ends with the opening brace of the arguments, which belongs to the schema
            # here.
            body = [
                *self._render_parts(call_format.prefix[:-1], function_name),
                f"arguments_{index}",
                *self._render_parts(call_format.suffix, function_name),
            ]
            rules |= {f"call_{index}": " ".join(body), f"arguments_{index}": _build_json_rule(arguments.schema)}
        alternatives = " | ".join(rule for rule in rules if not rule.startswith("arguments"))
        lines = [f"{rule}: {body}" for rule, body in {"start": alternatives, **rules, "ID": _ID_PATTERN}.items()]
        schemas = [schema.schema for schema in (constraint.content_schema, *constraint.tool_schemas.values()) if schema]
        return "\n".join(
            [*([_NO_FORCING] if escape_special_tokens(schemas, self._special_token_pattern) != schemas else []), *lines]
        )

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
