"""The API's own test server, and clients of it as a program makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from luthier import Luthier
from tests.api.conftest import stack
from tests.api.stack import Stack

__all__ = ["stack"]


@pytest.fixture
def client(stack: Stack) -> Iterator[Luthier]:
    """For a new project."""
    fresh = stack.with_new_project()
    with Luthier(base_url=f"{fresh.url}/v1", api_key=fresh.tenant.key) as client:
        yield client


@pytest.fixture
def fresh_stack(stack: Stack) -> Stack:
    """The server for a new project."""
    return stack.with_new_project()
