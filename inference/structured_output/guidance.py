"""Constrained decoding with llguidance: compiled grammars and the tokens that they allow next.

No ``$ref`` is fetched. The library's limits bound the cost of a schema when it is compiled and at
each step.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from inference.protocol.errors import EngineError
from inference.structured_output.grammar import NO_FRAME, FieldSchema, GrammarWriter, OutputFrame, StructuredOutput
from training.tasks.chat_format.tool_calls import ToolCallFormat

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Removes "at 2(9): failed to compile JSON schema: " before the reason and lines of the grammar
# after it ("   1 | start: answer").
_ERROR_NOISE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?|<non-verbose/>|\n *\d+ \| (?s:.*)")

# Reason in the library's words -> reason that helps the author of the schema.
_CLEARER_REASONS = {
    "oneOf constraints are not supported": "several branches of its oneOf may fit the same value; use anyOf"
}

_SILENT_LOG_LEVEL = 0
_MAX_GRAMMAR_SYMBOLS = 20_000
"""Maximum symbols of a grammar.

A choice between 700 objects has fewer; larger grammars take seconds to compile.
"""
_MAX_REASON_CHARACTERS = 300
"""Maximum length of the reason in an error message."""


class GrammarMatcher:
    """State of one sequence in its grammar. Not thread-safe."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: Collection[int], param: str) -> None:
        """``param``: field of the request body that errors name."""
        self._matcher = matcher
        self._stop_token_ids = stop_token_ids
        self._param = param
        self._is_stuck = False

    @property
    def is_terminated(self) -> bool:
        """True if the grammar allows no further token."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def error(self) -> EngineError | None:
        """Error that prevents further tokens, or None."""
        if not (self._is_stuck or self._matcher.is_error()):
            return None
        reason = (
            "no token of the model spells the required text"
            if self._is_stuck
            else _format_reason(self._matcher.get_error())
        )
        message = f"Constrained decoding cannot continue: {reason}. Make the schema simpler."
        return EngineError("invalid_request", message, self._param)

    def compute_bitmask(self) -> bytearray:
        """Return one bit per token, least significant first: 1 if the token is allowed.

        Stop tokens are allowed if the output is complete.
        """
        bitmask = bytearray(self._matcher.compute_bitmask())
        is_complete = self._matcher.is_accepting()
        for token in self._stop_token_ids:
            index, bit = token >> 3, 1 << (token & 7)
            bitmask[index] = bitmask[index] | bit if is_complete else bitmask[index] & ~bit
        self._is_stuck = bitmask.count(0) == len(bitmask)
        return bitmask

    def accept_token(self, token: int) -> None:
        """Advance the grammar by the sampled token."""
        if token not in self._stop_token_ids:
            self._matcher.consume_token(token)


class CompiledGrammar:
    """Compiled grammar, for any number of sequences."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: Collection[int], param: str) -> None:
        self._matcher = matcher
        self.stop_token_ids = stop_token_ids
        self._param = param

    def create_matcher(self) -> GrammarMatcher:
        """Create a matcher for one sequence."""
        return GrammarMatcher(self._matcher.deep_copy(), self.stop_token_ids, self._param)


class GrammarCompiler:
    """Compiler of grammars for one tokenizer.

    Create it once: the constructor reads the whole vocabulary.
    """

    def __init__(self, tokenizer: Any, stop_token_ids: Collection[int]) -> None:
        """Raise ``ValueError`` for a tokenizer whose tokens are not bytes."""
        # Only constrained requests need the library, and a GPU machine for tests may lack it.
        from llguidance import LLParserLimits
        from llguidance.hf import from_tokenizer

        self._writer = GrammarWriter(tokenizer)
        self._stop_token_ids = frozenset(stop_token_ids)
        self._tokenizer = from_tokenizer(tokenizer, eos_token=sorted(stop_token_ids) or None)
        # Verbose errors contain the parser's state, which does not help clients.
        self._limits = LLParserLimits(max_grammar_size=_MAX_GRAMMAR_SYMBOLS, verbose_errors=False)

    def compile(
        self,
        constraint: StructuredOutput,
        call_format: ToolCallFormat | None = None,
        frame: OutputFrame = NO_FRAME,
    ) -> CompiledGrammar:
        """Compile the grammar of a constraint. Blocks, for seconds in the worst case.

        ``call_format`` is required for tool schemas. Raises ``EngineError`` for an unsupported
        schema.
        """
        # Check the schemas of arguments separately: in a call, an unsatisfiable schema would fail
        # only during decoding.
        for arguments in constraint.tool_schemas.values():
            self._check_schema(arguments)
        matcher, reason = self._start_matcher(constraint, call_format, frame)
        if reason and constraint.content_schema:
            self._check_schema(constraint.content_schema)
        if reason:
            message = f"The schemas are not supported in combination: {reason}. Allow fewer tools."
            raise EngineError("invalid_request", message, "tools")
        return CompiledGrammar(matcher, self._stop_token_ids, constraint.param)

    def _start_matcher(
        self,
        constraint: StructuredOutput,
        call_format: ToolCallFormat | None = None,
        frame: OutputFrame = NO_FRAME,
    ) -> tuple[LLMatcher, str]:
        """Return a matcher before its first token, and the reason if it cannot continue, else
        ''."""
        from llguidance import LLMatcher

        matcher = LLMatcher(
            self._tokenizer,
            self._writer.write(constraint, call_format, frame),
            log_level=_SILENT_LOG_LEVEL,
            limits=self._limits,
        )
        # The first step detects unsatisfiable grammars, and computes state that all sequences
        # share.
        matcher.compute_bitmask()
        return matcher, _format_reason(matcher.get_error()) if matcher.is_stopped() else ""

    def _check_schema(self, schema: FieldSchema) -> None:
        """Raise ``EngineError`` if the schema is not supported."""
        _, reason = self._start_matcher(StructuredOutput(schema))
        if reason:
            message = f"Invalid '{schema.param}': this schema is not supported: {reason}. Change the schema."
            raise EngineError("invalid_request", message, schema.param)


def _format_reason(error: str) -> str:
    """Return the reason without the library's context.

    The library has none for an unsatisfiable grammar.
    """
    reason = " ".join(_ERROR_NOISE.sub("", error).split())
    clearer = next((ours for theirs, ours in _CLEARER_REASONS.items() if reason.startswith(theirs)), reason)
    return clearer[:_MAX_REASON_CHARACTERS].rstrip(".") if " " in clearer else "no output can match it"
