"""Tests that depend on the database, repeated on Postgres over another stack."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.access.test_tenants import route_ids, test_another_projects_id_looks_unknown  # noqa: F401
from tests.api.fine_tuning.test_create_job import file_id, test_every_field  # noqa: F401
from tests.api.fine_tuning.test_metrics import (  # noqa: F401
    job_with_metrics,
    test_events_arrive_while_they_happen,
    test_the_steps_of_a_job,
)
from tests.api.stack import Stack, run_stack
from tests.api.test_batches import test_cancelling, test_list_pages, test_unsuitable_files  # noqa: F401
from tests.api.test_errors import test_nul_in_the_url  # noqa: F401
from tests.api.test_models import test_a_checkpoint_is_a_model, test_delete  # noqa: F401
from tests.api.test_webhooks import (
    test_another_projects_webhook_looks_unknown,  # noqa: F401
    test_created_updated_and_deleted,  # noqa: F401
)
from tests.services import Postgres

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def any_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_stack")
    else:
        yield request.getfixturevalue("stack")


@pytest.fixture(scope="module")
def stack(postgres: Postgres) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_stack(Path(home), database_url=postgres.create_database()) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def sqlite_stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_stack(Path(home)) as running:
        yield running


def test_a_job_and_the_deletion_of_its_file_do_not_both_happen(any_stack: Stack) -> None:
    with any_stack.open_http() as http, ThreadPoolExecutor(2) as pool:
        outcomes = set()
        for _ in range(15):
            file = any_stack.insert_file().id
            body = {"model": "starter", "training_file": file}
            created = pool.submit(http.post, "/v1/fine_tuning/jobs", json=body)
            deleted = pool.submit(http.delete, f"/v1/files/{file}")
            outcomes.add((created.result().status_code, deleted.result().status_code))
    assert outcomes <= {(200, 400), (400, 200)}


def test_concurrent_downloads_share_one_export(any_stack: Stack) -> None:
    model = any_stack.insert_model()
    with any_stack.open_http() as http, ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: http.get(f"/v1/models/{model.id}/download"), range(6)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.headers["x-content-sha256"] for response in responses}) == 1
