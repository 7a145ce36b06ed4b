"""Fixtures that every room's tests share: the two databases, the two blob stores, a Redis."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import migrate
from tests import services


@pytest.fixture(scope="module", autouse=True)
def _collect_unclosed_resources() -> Iterator[None]:
    """An unclosed socket is noticed when it is collected: here, not in whatever test runs later."""
    yield
    gc.collect()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[services.Postgres]:
    with services.run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_url(aws_credentials: None) -> Iterator[str]:
    with services.run_s3() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with services.run_redis() as (url, _):
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database with today's tables, once on SQLite and once on Postgres."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/luthier.db"
    else:
        url = request.getfixturevalue("postgres").create_database()
    asyncio.run(migrate.upgrade(url))
    return url


@pytest.fixture(params=["file", "s3"])
def blob_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty blob store, once in a folder and once in a bucket."""
    if request.param == "file":
        return f"file://{tmp_path}/blobs"
    base = str(request.getfixturevalue("s3_url"))
    return base.replace("/here?", f"/{tmp_path.name}?")
