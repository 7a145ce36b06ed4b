"""Fixtures: the API's test server and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from luthier import Luthier
from tests.api.conftest import stack
from tests.api.stack import Stack

__all__ = ["stack"]


@pytest.fixture
def client(stack: Stack) -> Iterator[Luthier]:
    """Client of a new project."""
    project_stack = stack.with_new_project()
    with Luthier(base_url=f"{project_stack.url}/v1", api_key=project_stack.tenant.key) as client:
        yield client


@pytest.fixture
def fresh_stack(stack: Stack) -> Stack:
    """Test server with a key of a new project."""
    return stack.with_new_project()
