"""OpenAI's own client, unmodified, against a server of ours: the installed one; ``make conformance`` asks others."""

from __future__ import annotations

import pytest

from tests.conformance.client.context import World, missing
from tests.conformance.client.run import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_the_official_client(world: World, name: str) -> None:
    # The installed client is a recent one: it lacks nothing that is checked.
    assert missing(CHECKS[name], world.client()) is None
    CHECKS[name](world)
