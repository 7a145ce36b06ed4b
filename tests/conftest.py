"""Fixtures shared by all tests: two databases, two blob stores and a Redis server."""

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
    """Collect garbage after each module, so that an unclosed socket fails its own module's
    tests."""
    yield
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run integration tests first, so that no long file starts last and runs alone."""
    items.sort(key=lambda item: item.get_closest_marker("integration") is None)


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
    """URL of a fresh, migrated database: one run on SQLite and one on Postgres."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/luthier.db"
    else:
        url = request.getfixturevalue("postgres").create_database()
    asyncio.run(migrate.upgrade(url))
    return url


@pytest.fixture(params=["file", "s3"])
def blob_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty blob store: one run in a folder and one in an S3 bucket."""
    if request.param == "file":
        return f"file://{tmp_path}/blobs"
    base = str(request.getfixturevalue("s3_url"))
    return base.replace("/here?", f"/{tmp_path.name}?")
