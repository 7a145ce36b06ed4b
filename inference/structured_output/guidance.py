"""Constrained decoding: which tokens may come next where an answer is held to a grammar. The work is llguidance's.

Nothing here fetches a ``$ref``; the library's limits bound what a schema can cost, in compiling and in each step.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from llguidance import LLMatcher, LLParserLimits
from llguidance.hf import from_tokenizer

from inference.protocol.errors import EngineError
from inference.structured_output.grammar import FieldSchema, GrammarWriter, StructuredOutput
from training.tasks.chat_format.tool_calls import ToolCallFormat

# "at 2(9): failed to compile JSON schema: …", the reason, and lines of the grammar: "   1 | start: answer".
_ERROR_NOISE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?|<non-verbose/>|\n *\d+ \| (?s:.*)")

# What the library says to who calls it -> what helps who wrote the schema.
_CLEARER_REASONS = {
    "oneOf constraints are not supported": "several branches of its oneOf may fit the same value; use anyOf"
}

_SILENT_LOG_LEVEL = 0
_MAX_GRAMMAR_SYMBOLS = 20_000
"""Of a grammar: 700 objects to choose from have fewer. More take seconds to compile."""
_MAX_REASON_CHARACTERS = 300
"""Characters that are told of why a schema cannot be held."""


class GrammarMatcher:
    """One answer in the making, held to its grammar. Not for two threads at once."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: Collection[int], param: str) -> None:
        """``param``: the field of the body that a fault is of."""
        self._matcher = matcher
        self._stop_token_ids = stop_token_ids
        self._param = param
        self._is_stuck = False

    @property
    def is_terminated(self) -> bool:
        """Nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def error(self) -> EngineError | None:
        """Why it cannot go on, if it cannot."""
        if not (self._is_stuck or self._matcher.is_error()):
            return None
        reason = (
            "no token of the model spells what must follow"
            if self._is_stuck
            else _format_reason(self._matcher.get_error())
        )
        what = f"The answer can be held to its schema no longer: {reason}. Make the schema simpler."
        return EngineError("invalid_request", what, self._param)

    def compute_bitmask(self) -> bytearray:
        """A bit for each token, the lowest of a byte first; an end's is set where the answer may end."""
        bits = bytearray(self._matcher.compute_bitmask())
        may_end = self._matcher.is_accepting()
        for end in self._stop_token_ids:
            place, bit = end >> 3, 1 << (end & 7)
            bits[place] = bits[place] | bit if may_end else bits[place] & ~bit
        self._is_stuck = bits.count(0) == len(bits)
        return bits

    def accept_token(self, token: int) -> None:
        """The token that was chosen."""
        if token not in self._stop_token_ids:
            self._matcher.consume_token(token)


class CompiledGrammar:
    """Compiled, for any number of answers."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: Collection[int], param: str) -> None:
        self._matcher = matcher
        self._stop_token_ids = stop_token_ids
        self._param = param

    def create_matcher(self) -> GrammarMatcher:
        """For one answer."""
        return GrammarMatcher(self._matcher.deep_copy(), self._stop_token_ids, self._param)


class GrammarCompiler:
    """Compiles for the vocabulary of one tokenizer. Made once: it walks through all tokens."""

    def __init__(self, tokenizer: Any, stop_token_ids: Collection[int]) -> None:
        """``ends``: any of these ends an answer. Raises ``ValueError`` for a tokenizer whose tokens are not bytes."""
        self._writer = GrammarWriter(tokenizer)
        self._stop_token_ids = frozenset(stop_token_ids)
        self._tokenizer = from_tokenizer(tokenizer, eos_token=sorted(stop_token_ids) or None)
        # A parser's state is no help to who reads the message.
        self._limits = LLParserLimits(max_grammar_size=_MAX_GRAMMAR_SYMBOLS, verbose_errors=False)

    def compile(self, constraint: StructuredOutput, call_format: ToolCallFormat | None = None) -> CompiledGrammar:
        """``form``: how a call is written. Blocks, for seconds at the worst.

        Raises ``EngineError`` for a schema that cannot be held.
        """
        # In a call a schema's turn comes late: what no answer can fit would be found by a row that has begun.
        for arguments in constraint.tool_schemas.values():
            self._check_schema(arguments)
        matcher, fault = self._start_matcher(constraint, call_format)
        if fault and constraint.content_schema:
            self._check_schema(constraint.content_schema)
        if fault:
            raise EngineError("invalid_request", f"The schemas together cannot be held: {fault}.", "tools")
        return CompiledGrammar(matcher, self._stop_token_ids, constraint.param)

    def _start_matcher(
        self, constraint: StructuredOutput, call_format: ToolCallFormat | None = None
    ) -> tuple[LLMatcher, str]:
        """Before the first token, and why it cannot go on from there."""
        matcher = LLMatcher(
            self._tokenizer,
            self._writer.write(constraint, call_format),
            log_level=_SILENT_LOG_LEVEL,
            limits=self._limits,
        )
        # The first step finds what no answer can fit, and makes what all answers share.
        matcher.compute_bitmask()
        return matcher, _format_reason(matcher.get_error()) if matcher.is_stopped() else ""

    def _check_schema(self, schema: FieldSchema) -> None:
        """Raise what is wrong with a schema by itself."""
        _, fault = self._start_matcher(StructuredOutput(schema))
        if fault:
            what = f"Invalid '{schema.param}': an answer cannot be held to this schema: {fault}. Change the schema."
            raise EngineError("invalid_request", what, schema.param)


def _format_reason(error: str) -> str:
    """The library's words without what it shows around them; it has none for a grammar that no text fits."""
    words = " ".join(_ERROR_NOISE.sub("", error).split())
    told = next((ours for theirs, ours in _CLEARER_REASONS.items() if words.startswith(theirs)), words)
    return told[:_MAX_REASON_CHARACTERS].rstrip(".") if " " in told else "no answer could fit it"
