"""Constrained decoding after reasoning: the reasoning is free, and the grammar follows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from inference.protocol.errors import EngineError
from inference.structured_output.guidance import CompiledGrammar, GrammarMatcher


@dataclass(frozen=True)
class ReasoningTokens:
    """Tokens around the reasoning."""

    opening: Sequence[int]
    """Tokens that the output begins with. Empty if the prompt opened the reasoning."""
    end: int
    """Token that ends the reasoning."""
    vocab_size: int


class DeferredMatcher:
    """State of one sequence that reasons before its grammar begins. Not thread-safe.

    The output must begin with the opening tokens, so that it cannot evade the grammar.
    """

    def __init__(self, matcher: GrammarMatcher, tokens: ReasoningTokens, stop_token_ids: Collection[int]) -> None:
        self._matcher = matcher
        self._tokens = tokens
        self._stop_token_ids = stop_token_ids
        self._opening = list(tokens.opening)
        self._is_reasoning = True

    @property
    def is_terminated(self) -> bool:
        """True if the grammar allows no further token."""
        return not self._is_reasoning and self._matcher.is_terminated

    @property
    def error(self) -> EngineError | None:
        """Error that prevents further tokens, or None."""
        return None if self._is_reasoning else self._matcher.error

    def compute_bitmask(self) -> bytearray:
        """Return one bit per token, least significant first: 1 if the token is allowed.

        Reasoning cannot stop the output.
        """
        if not self._is_reasoning:
            return self._matcher.compute_bitmask()
        width = -(-self._tokens.vocab_size // 8)
        if self._opening:
            bitmask = bytearray(width)
            bitmask[self._opening[0] >> 3] = 1 << (self._opening[0] & 7)
            return bitmask
        bitmask = bytearray(b"\xff" * width)
        for token in self._stop_token_ids:
            bitmask[token >> 3] &= ~(1 << (token & 7)) & 0xFF
        return bitmask

    def accept_token(self, token: int) -> None:
        """Advance by the sampled token."""
        if not self._is_reasoning:
            self._matcher.accept_token(token)
        elif self._opening:
            self._opening.pop(0)
        elif token == self._tokens.end:
            self._is_reasoning = False


@dataclass(frozen=True)
class DeferredGrammar:
    """Compiled grammar that begins after the reasoning."""

    grammar: CompiledGrammar
    tokens: ReasoningTokens

    def create_matcher(self) -> DeferredMatcher:
        """Create a matcher for one sequence."""
        return DeferredMatcher(self.grammar.create_matcher(), self.tokens, self.grammar.stop_token_ids)
