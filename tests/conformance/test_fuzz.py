"""Short form of ``make fuzz``: a few hundred requests of every kind."""

from __future__ import annotations

import pytest

from tests.conformance.client.context import CheckContext
from tests.conformance.fuzz import fuzz

pytestmark = pytest.mark.integration


def test_nothing_breaks_and_nothing_differs_from_the_document(context: CheckContext) -> None:
    phases = ["--phases=examples,fuzzing,stateful", "--max-examples=3", "--seed=1", "--no-shrink"]
    # These routes start processes and have their own tests.
    result = fuzz(context, [*phases, "--exclude-path-regex=jobs:pre"])
    assert not result.failures, result.output[-6000:]
    assert not [status for status, count in result.statuses.items() if status.startswith("5") and count]
    assert result.requests > 200
