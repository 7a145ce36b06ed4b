"""One server shared by the conformance tests. Each test creates its own objects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.client.context import CheckContext
from tests.conformance.server import run_check_server


@pytest.fixture(scope="session")
def context() -> Iterator[CheckContext]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_check_server(Path(home)) as (_, check_context):
        yield check_context
