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

from training.tasks.chat_format.tool_calls import ID, NAME, CallForm, Part
from training.tasks.support.special_tokens import PROBE, any_of, shield

Schema = Mapping[str, Any]

# Mistral's templates take ids of nine letters and digits only.
_ID = "/[a-zA-Z0-9]{9}/"

# Room for a line of its own, indented; without an end to it a model may write blanks for ever.
_JSON = {"whitespace_pattern": r" |\n {0,24}"}


# Where only one text can follow, the library takes the tokens that its tokenizer makes of it, and of a control token's
# name in a schema it makes that token. Where such a name stands, the model spells what follows itself.
_BY_LETTERS = '%llguidance {"no_forcing": true}'


@dataclass(frozen=True)
class FieldSchema:
    """A schema, and the field of the body that has it."""

    schema: Schema
    param: str


@dataclass(frozen=True)
class Wish:
    """What an answer may be: text that fits ``answer``, or one call of one of ``calls``."""

    answer: FieldSchema | None = None
    calls: Mapping[str, FieldSchema] = field(default_factory=dict)
    """Function -> its arguments."""

    @property
    def param(self) -> str:
        """The field of the body that holds the answer."""
        return self.answer.param if self.answer else "tools"


class GrammarWriter:
    """Knows which words are tokens of their own: there a model writes that token, not its letters."""

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.items()
        self._ids = {token.content: id for id, token in added if len(token.content.strip()) > 1}
        self._names = any_of(list(self._ids))

    def write(self, wish: Wish, form: CallForm | None) -> str:
        """The whole grammar. ``form``: how a call is written; None where none is wished for."""
        rules = {} if wish.answer is None else {"answer": _json(wish.answer.schema)}
        for index, (name, arguments) in enumerate(wish.calls.items()):
            assert form is not None
            # The head ends with the arguments' brace, which is the schema's here.
            body = [*self._words(form.head[:-1], name), f"arguments_{index}", *self._words(form.close, name)]
            rules |= {f"call_{index}": " ".join(body), f"arguments_{index}": _json(arguments.schema)}
        starts = " | ".join(rule for rule in rules if not rule.startswith("arguments"))
        lines = [f"{rule}: {body}" for rule, body in {"start": starts, **rules, "ID": _ID}.items()]
        schemas = [schema.schema for schema in (wish.answer, *wish.calls.values()) if schema]
        return "\n".join([*([_BY_LETTERS] if shield(schemas, self._names) != schemas else []), *lines])

    def _words(self, parts: Sequence[Part], name: str) -> Iterator[str]:
        """Part of a rule's body."""
        slots: Mapping[Part, str] = {NAME: name, ID: PROBE}
        text = "".join(str(slots.get(part, part)) for part in parts)
        for words in re.split(f"({PROBE}|{self._names.pattern})", text):
            if words in self._ids:
                yield f"<[{self._ids[words]}]>"
            elif words == PROBE:
                yield "ID"
            elif words:
                yield json.dumps(words, ensure_ascii=False)


def _json(schema: Schema) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON})}"
