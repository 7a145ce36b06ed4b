"""Checks of fine-tuning jobs: nulls, extra fields, empty bodies, and cursors over equal
timestamps."""

from __future__ import annotations

from typing import Any

import openai

from tests.conformance.client.context import CheckContext, raises, requires
from tests.conformance.client.files import ROW

STATUSES = {"validating_files", "queued", "running", "succeeded", "failed", "cancelled"}


def create_job(context: CheckContext, client: Any = None, **values: Any) -> Any:
    file = context.get_client().files.create(file=("rows.jsonl", ROW * 20), purpose="fine-tune")
    return (client or context.get_client()).fine_tuning.jobs.create(model="starter", training_file=file.id, **values)


def get_extra_field(resource: Any, name: str) -> Any:
    """Return a field that OpenAI's type does not have."""
    return (resource.model_extra or {})[name]


def check_create_and_retrieve(context: CheckContext) -> None:
    client = context.get_client()
    job = create_job(context, suffix="conformance")
    assert job.id.startswith("ftjob-")
    assert job.object == "fine_tuning.job"
    assert job.status in STATUSES
    assert (job.error, job.fine_tuned_model, job.finished_at, job.result_files) == (None, None, None, [])
    assert client.fine_tuning.jobs.retrieve(job.id).id == job.id


def check_explicit_nulls(context: CheckContext) -> None:
    job = create_job(context, suffix=None, validation_file=None, extra_body={"seed": None, "metadata": None})
    assert job.validation_file is None


@requires("fine_tuning.jobs.create(seed)", "fine_tuning.jobs.create(method)")
def check_everything_openai_documents(context: CheckContext) -> None:
    hyperparameters = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    job = create_job(
        context,
        seed=7,
        suffix="all",
        integrations=None,
        metadata={"a b": "c&d"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": hyperparameters},
            "dpo": {"hyperparameters": {"beta": "auto"}},
        },
    )
    assert job.seed == 7
    assert job.metadata == {"a b": "c&d"}
    assert job.method.type == "supervised"
    assert job.method.supervised.hyperparameters.n_epochs == 2


def check_the_legacy_hyperparameters_field(context: CheckContext) -> None:
    job = create_job(context, hyperparameters={"n_epochs": 3})
    assert job.hyperparameters.n_epochs == 3


def check_extra_body_reaches_our_fields(context: CheckContext) -> None:
    job = create_job(context, extra_body={"update": {"type": "lora", "rank": 4}})
    assert get_extra_field(job, "update")["rank"] == 4
    assert get_extra_field(job, "task") == "chat"


def check_an_unknown_field_is_named(context: CheckContext) -> None:
    with raises(openai.BadRequestError) as raised:
        create_job(context, extra_body={"learning_rte": 1})
    raised.assert_matches(400, "unknown_parameter", "learning_rte")


@requires("fine_tuning.jobs.list(metadata)")
def check_metadata_filter(context: CheckContext) -> None:
    client = context.get_client()
    job = create_job(context, metadata={"a b": "filter&me"})
    assert [listed.id for listed in client.fine_tuning.jobs.list(metadata={"a b": "filter&me"})] == [job.id]


def check_cancel_has_an_empty_body(context: CheckContext) -> None:
    client = context.get_client(max_retries=2)
    job = create_job(context)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.cancel(job.id)
    assert raised.error.response.headers["x-should-retry"] == "false"


@requires("fine_tuning.jobs.pause")
def check_pause_and_resume(context: CheckContext) -> None:
    client = context.get_client()
    job = create_job(context)
    paused = client.fine_tuning.jobs.pause(job.id)
    assert paused.status == "queued"
    assert get_extra_field(paused, "state") == "paused"
    assert get_extra_field(client.fine_tuning.jobs.resume(job.id), "state") != "paused"


def check_events_page_by_themselves(context: CheckContext) -> None:
    client = context.get_client()
    events = list(client.fine_tuning.jobs.list_events(context.job, limit=2))
    assert [event.message for event in events] == [f"event {seq}" for seq in (5, 4, 3, 2, 1)]
    assert {event.object for event in events} == {"fine_tuning.job.event"}


@requires("fine_tuning.jobs.checkpoints.list")
def check_checkpoints(context: CheckContext) -> None:
    client = context.get_client()
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(context.job, limit=1))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [20, 10]
    assert checkpoints[0].metrics.train_loss == 1.5
    # A checkpoint's name, colons included, is the name of a model.
    assert (
        client.models.retrieve(checkpoints[0].fine_tuned_model_checkpoint).id
        == checkpoints[0].fine_tuned_model_checkpoint
    )


@requires("fine_tuning.checkpoints.permissions.create")
def check_checkpoint_permissions(context: CheckContext) -> None:
    client = context.get_client()
    checkpoint = client.fine_tuning.jobs.checkpoints.list(context.job).data[0].fine_tuned_model_checkpoint
    permissions = client.fine_tuning.checkpoints.permissions
    list_permissions = getattr(permissions, "list", None) or permissions.retrieve
    assert not list(list_permissions(checkpoint).data)
    with raises(openai.APIStatusError) as raised:
        permissions.create(checkpoint, project_ids=["proj_none"])
    assert raised.error.status_code in {400, 404}


def check_pagination_over_jobs_of_the_same_instant(context: CheckContext) -> None:
    client = context.get_client(key=context.pagination_key)
    ids = [job.id for job in client.fine_tuning.jobs.list(limit=100)]
    assert len(ids) == len(set(ids)) == context.pagination_job_count


def check_pagination_page_by_page(context: CheckContext) -> None:
    """Explicit pagination: request the next page from each page."""
    client = context.get_client(key=context.pagination_key)
    page, ids = client.fine_tuning.jobs.list(limit=250), []
    while True:
        ids += [job.id for job in page.data]
        if not page.has_next_page():
            break
        page = page.get_next_page()
    assert len(ids) == len(set(ids)) == context.pagination_job_count


def check_a_cursor_of_another_project(context: CheckContext) -> None:
    with raises(openai.BadRequestError) as raised:
        context.get_client(key=context.pagination_key).fine_tuning.jobs.list(after=context.job)
    raised.assert_matches(400, "invalid_value", "after")
