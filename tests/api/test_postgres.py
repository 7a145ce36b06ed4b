"""What the API asks of its database, once more on Postgres: the same tests over another stack."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.stack import Stack, running_stack
from tests.api.test_batches import test_cancelling, test_list_pages, test_unfit_files  # noqa: F401
from tests.api.test_checkpoints import (
    test_deleting_one,  # noqa: F401
    test_deleting_several_is_all_or_nothing,  # noqa: F401
    test_expired_is_missing_at_once_and_its_bytes_go_later,  # noqa: F401
    test_what_a_live_job_goes_on_from_stays,  # noqa: F401
)
from tests.api.test_create_job import file_id, test_every_field  # noqa: F401
from tests.api.test_errors import test_nul_in_the_url  # noqa: F401
from tests.api.test_files import (
    test_a_file_over_the_quota_leaves_nothing,  # noqa: F401
    test_a_file_that_a_job_needs_stays,  # noqa: F401
    test_an_expired_file_is_not_there,  # noqa: F401
    test_list_filters_orders_and_pages,  # noqa: F401
)
from tests.api.test_job_actions import (
    test_a_clone_is_the_same_but_for_what_is_sent,  # noqa: F401
    test_going_on_from_a_checkpoint,  # noqa: F401
    test_pausing_and_going_on,  # noqa: F401
    test_the_place_in_the_queue,  # noqa: F401
)
from tests.api.test_jobs import (
    test_cancelling_a_waiting_job,  # noqa: F401
    test_checkpoints_page,  # noqa: F401
    test_events_newest_first,  # noqa: F401
    test_metadata_filter,  # noqa: F401
    test_walking_jobs_with_equal_timestamps,  # noqa: F401
)
from tests.api.test_metrics import measured, test_events_arrive_while_they_happen, test_the_steps_of_a_job  # noqa: F401
from tests.api.test_models import test_a_checkpoint_is_a_model, test_delete  # noqa: F401
from tests.api.test_permissions import (
    test_only_projects_of_the_same_organization,  # noqa: F401
    test_sharing_twice_is_sharing_once,  # noqa: F401
    test_what_is_shared_can_be_used_but_not_deleted_or_shared_on,  # noqa: F401
)
from tests.api.test_tenants import test_another_projects_id_is_like_an_unknown_one, worlds  # noqa: F401
from tests.api.test_uploads import (
    test_an_expired_upload_is_void_at_once,  # noqa: F401
    test_cancelling_removes_the_parts_and_ends_it,  # noqa: F401
    test_completing_and_cancelling_do_not_both_happen,  # noqa: F401
    test_many_completing_at_once_make_one_file,  # noqa: F401
    test_the_order_is_the_one_of_completing,  # noqa: F401
)
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
