"""One API server shared by all tests of ``api``. Each test inserts its own rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.stack import Stack, run_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_stack(Path(home), max_upload_bytes=100 * 2**20, max_body_bytes=2**20) as running,
    ):
        yield running
