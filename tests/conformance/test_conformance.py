"""OpenAI's own client, unmodified, against a server of ours: the installed one; ``make conformance`` asks others."""

from __future__ import annotations

import pytest

from tests.conformance.client.context import CheckContext, find_missing_feature
from tests.conformance.client.run import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_the_official_client(context: CheckContext, name: str) -> None:
    # The installed client is a recent one: it lacks nothing that is checked.
    assert find_missing_feature(CHECKS[name], context.get_client()) is None
    CHECKS[name](context)
