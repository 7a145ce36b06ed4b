"""Token counts of conversations for the starter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

BASE = Path(__file__).parent.parent.parent / "models" / "starter"
CONTEXT_LENGTH = 512
MESSAGE_OVERHEAD_TOKENS = 2
"""Tokens that the chat template adds to a message."""


def count_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(_load_tokenizer().encode(message["content"]).ids) + MESSAGE_OVERHEAD_TOKENS for message in messages)


@cache
def _load_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BASE / "tokenizer.json"))
