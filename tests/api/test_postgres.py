"""What the API asks of its database, once more on Postgres: the same tests over another stack."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.access.test_tenants import test_another_projects_id_is_like_an_unknown_one, worlds  # noqa: F401
from tests.api.fine_tuning.test_create_job import file_id, test_every_field  # noqa: F401
from tests.api.fine_tuning.test_metrics import measured, test_events_arrive_while_they_happen, test_the_steps_of_a_job  # noqa: F401
from tests.api.stack import Stack, running_stack
from tests.api.test_batches import test_cancelling, test_list_pages, test_unfit_files  # noqa: F401
from tests.api.test_errors import test_nul_in_the_url  # noqa: F401
from tests.api.test_models import test_a_checkpoint_is_a_model, test_delete  # noqa: F401
from tests.api.test_webhooks import (
    test_another_projects_webhook_is_like_none,  # noqa: F401
    test_made_changed_and_deleted,  # noqa: F401
)
from tests.services import Postgres


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Iterator[Stack]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_stack")
    else:
        yield request.getfixturevalue("stack")


@pytest.fixture(scope="module")
def stack(postgres: Postgres) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        running_stack(Path(home), database_url=postgres.database()) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def sqlite_stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, running_stack(Path(home)) as running:
        yield running


def test_a_job_and_the_deletion_of_its_file_do_not_both_happen(either: Stack) -> None:
    with either.http() as http, ThreadPoolExecutor(2) as pool:
        outcomes = set()
        for _ in range(15):
            file = either.file().id
            body = {"model": "starter", "training_file": file}
            made = pool.submit(http.post, "/v1/fine_tuning/jobs", json=body)
            deleted = pool.submit(http.delete, f"/v1/files/{file}")
            outcomes.add((made.result().status_code, deleted.result().status_code))
    assert outcomes <= {(200, 400), (400, 200)}


def test_many_downloads_at_once_keep_one_export(either: Stack) -> None:
    model = either.model()
    with either.http() as http, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: http.get(f"/v1/models/{model.id}/download"), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-content-sha256"] for answer in answers}) == 1
