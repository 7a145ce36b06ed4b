"""How long a conversation is to the starter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

BASE = Path(__file__).parent.parent.parent / "models" / "starter"
CONTEXT = 512
TURN = 2
"""Tokens that the template puts around a message."""


def tokens(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(_tokenizer().encode(message["content"]).ids) + TURN for message in messages)


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BASE / "tokenizer.json"))
