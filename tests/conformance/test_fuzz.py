"""The short form of ``make fuzz``: some hundred requests of every kind."""

from __future__ import annotations

from tests.conformance.client.context import CheckContext
from tests.conformance.fuzz import fuzz


def test_nothing_breaks_and_nothing_differs_from_the_document(context: CheckContext) -> None:
    phases = ["--phases=examples,fuzzing,stateful", "--max-examples=3", "--seed=1", "--no-shrink"]
    # These start processes; tests of their own ask them.
    fuzzed = fuzz(context, [*phases, "--exclude-path-regex=jobs:pre"])
    assert not fuzzed.failures, fuzzed.output[-6000:]
    assert not [status for status, count in fuzzed.statuses.items() if status.startswith("5") and count]
    assert fuzzed.requests > 200
