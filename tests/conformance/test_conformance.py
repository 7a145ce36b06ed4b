"""Checks of the installed official client, unmodified. ``make conformance`` runs other versions."""

from __future__ import annotations

import pytest

from tests.conformance.client.context import CheckContext, find_missing_feature
from tests.conformance.client.run import CHECKS

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", CHECKS)
def test_the_official_client(context: CheckContext, name: str) -> None:
    # The installed client is recent enough for every check.
    assert find_missing_feature(CHECKS[name], context.get_client()) is None
    CHECKS[name](context)
