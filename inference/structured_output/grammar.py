"""The grammar of an answer: JSON that fits a schema, a call as the base's template writes it, or either.

Written in llguidance's Lark (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md), which takes JSON
Schema as a rule's body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.tasks.chat_format.tool_calls import ID_PATTERN, NAME_PATTERN, FormatPart, ToolCallFormat
from training.tasks.support.special_tokens import PROBE, compile_names, escape_special_tokens

Schema = Mapping[str, Any]

# Mistral's templates take ids of nine letters and digits only.
_ID_PATTERN = "/[a-zA-Z0-9]{9}/"

# Room for a line of its own, indented; without an end to it a model may write blanks for ever.
_JSON_OPTIONS = {"whitespace_pattern": r" |\n {0,24}"}


# Where only one text can follow, the library takes the tokens that its tokenizer makes of it, and of a control token's
# name in a schema it makes that token. Where such a name stands, the model spells what follows itself.
_NO_FORCING = '%llguidance {"no_forcing": true}'


@dataclass(frozen=True)
class FieldSchema:
    """A schema, and the field of the body that has it."""

    schema: Schema
    param: str


@dataclass(frozen=True)
class StructuredOutput:
    """What an answer may be: text that fits ``answer``, or one call of one of ``calls``."""

    content_schema: FieldSchema | None = None
    tool_schemas: Mapping[str, FieldSchema] = field(default_factory=dict)
    """Function -> its arguments."""

    @property
    def param(self) -> str:
        """The field of the body that holds the answer."""
        return self.content_schema.param if self.content_schema else "tools"


class GrammarWriter:
    """Knows which words are tokens of their own: there a model writes that token, not its letters."""

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.items()
        self._special_token_ids = {token.content: id for id, token in added if len(token.content.strip()) > 1}
        self._special_token_pattern = compile_names(list(self._special_token_ids))

    def write(self, constraint: StructuredOutput, call_format: ToolCallFormat | None) -> str:
        """The whole grammar. ``form``: how a call is written; None where none is wished for."""
        rules = (
            {} if constraint.content_schema is None else {"answer": _build_json_rule(constraint.content_schema.schema)}
        )
        for index, (function_name, arguments) in enumerate(constraint.tool_schemas.items()):
            assert call_format is not None
            # The head ends with the arguments' brace, which is the schema's here.
            body = [
                *self._render_parts(call_format.prefix[:-1], function_name),
                f"arguments_{index}",
                *self._render_parts(call_format.suffix, function_name),
            ]
            rules |= {f"call_{index}": " ".join(body), f"arguments_{index}": _build_json_rule(arguments.schema)}
        starts = " | ".join(rule for rule in rules if not rule.startswith("arguments"))
        lines = [f"{rule}: {body}" for rule, body in {"start": starts, **rules, "ID": _ID_PATTERN}.items()]
        schemas = [schema.schema for schema in (constraint.content_schema, *constraint.tool_schemas.values()) if schema]
        return "\n".join(
            [*([_NO_FORCING] if escape_special_tokens(schemas, self._special_token_pattern) != schemas else []), *lines]
        )

    def _render_parts(self, parts: Sequence[FormatPart], function_name: str) -> Iterator[str]:
        """Part of a rule's body."""
        slots: Mapping[FormatPart, str] = {NAME_PATTERN: function_name, ID_PATTERN: PROBE}
        text = "".join(str(slots.get(part, part)) for part in parts)
        for words in re.split(f"({PROBE}|{self._special_token_pattern.pattern})", text):
            if words in self._special_token_ids:
                yield f"<[{self._special_token_ids[words]}]>"
            elif words == PROBE:
                yield "ID"
            elif words:
                yield json.dumps(words, ensure_ascii=False)


def _build_json_rule(schema: Schema) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"
