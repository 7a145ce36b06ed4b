"""One server for this folder's tests; each makes rows of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.client.context import World
from tests.conformance.server import running_world


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, running_world(Path(home)) as (_, world):
        yield world
