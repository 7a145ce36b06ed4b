"""Creation of jobs: all checks of the request body that do not read the files, and the row."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import InvalidRequest, to_invalid_request
from api.http.idempotency import ResponseRecorder
from api.schemas.fine_tuning.jobs import CloneIn, JobIn, JobOut
from api.schemas.serializers import to_job_out
from api.services.job_validation import check_base_format, check_options, check_update, task_for_method
from api.services.starting_point import StartingPoint, resolve_starting_point
from inference.protocol.validation import to_validation_issue
from jobs.integrations import describe_missing_setup
from jobs.lifecycle import transitions
from jobs.resources import Resources
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.clock import is_unexpired
from storage.ids import new_id
from storage.registry import BaseModelEntry
from storage.tables import File, Job
from training.hyperparameters.auto import choose_default_update
from training.spec import DpoHyperparameters, Hyperparameters, Method
from training.tasks import TASKS, TASKS_BY_METHOD
from training.tasks.base import AnyTask
from training.updates import UPDATES, AnyUpdate

_HYPERPARAMETERS_PATH = "method.{}.hyperparameters"
_EQUIVALENT_FIELDS = (frozenset({"model", "from_checkpoint"}), frozenset({"method", "hyperparameters"}))
"""Groups of equivalent fields. A clone that sends one of a group drops the source's other ones."""
_REQUIRED_FIELDS = frozenset({"model", "training_file"})
"""Fields that every job has: null in a clone keeps the source's value."""


async def build_job(resources: Resources, project_id: str, body: JobIn) -> Job:
    """Build the row of a new job. Check its files with :func:`check_files`.

    Raises ``InvalidRequest``, ``ModelNotPulled``.
    """
    method = _resolve_method(body)
    _check_integrations(resources, body)
    starting_point = await resolve_starting_point(resources, project_id, body.model, body.from_checkpoint)
    check_base_format(starting_point.base)
    task_name = _resolve_task(body, starting_point)
    task = task_for_method(method, task_name)
    _check_columns(body, task)
    update = body.update or _resolve_update(starting_point, task_name)
    check_update(update.type, task)
    starting_point.check(task_name, update)
    hyperparameters = _merge_hyperparameters(body, method, starting_point.base)
    check_options(hyperparameters, body, task, _HYPERPARAMETERS_PATH.format(method))
    return Job(
        id=new_id("job"),
        project_id=project_id,
        created_at=time.time(),
        base_model=starting_point.base.id,
        starting_point=starting_point.start_column,
        task=task_name,
        update=update.model_dump(),
        method={"type": method},
        hyperparameters=hyperparameters.model_dump(),
        columns=body.columns or {},
        training_file=body.training_file,
        validation_file=body.validation_file,
        general_file=body.general_file,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        suffix=re.sub(r"[^A-Za-z0-9._-]+", "-", body.suffix) if body.suffix else None,
        meta=body.metadata or None,
        integrations=[integration.model_dump() for integration in body.integrations or []] or None,
        checkpoint_ttl_seconds=body.checkpoint_ttl_seconds,
        auto_start=body.auto_start,
        request=body.model_dump(mode="json", exclude_unset=True),
    )


async def create_job(resources: Resources, principal: Principal, body: JobIn, recorder: ResponseRecorder) -> JobOut:
    """Insert a new job and notify a worker. Raises ``InvalidRequest``, ``ModelNotPulled``."""
    job = await build_job(resources, principal.project_id, body)
    job.key_id = principal.key_id
    async with resources.db.write() as session:
        await check_files(session, job)
        await transitions.create(session, job)
        await recorder.record(session, to_job_out(job, principal.organization_id))
        await audit(session, principal, "fine_tuning.job.created", job.id)
    # After the commit, so that the worker finds the row. A lost wake-up costs one poll interval.
    await resources.wakeup.notify(job.id, job.attempt)
    return to_job_out(job, principal.organization_id)


def clone_request(source: Job, changes: CloneIn) -> JobIn:
    """Return the request of ``source`` with ``changes`` applied. Raises ``InvalidRequest``."""
    if source.request is None:
        raise InvalidRequest(
            "This job was created before requests were stored, so it cannot be cloned; create a new job.",
            code="invalid_state",
            headers={"x-should-retry": "false"},
        )
    sent = changes.model_dump(mode="json", exclude_unset=True)
    sent = {name: value for name, value in sent.items() if value is not None or name not in _REQUIRED_FIELDS}
    original = {"seed": source.seed, **source.request}
    for names in _EQUIVALENT_FIELDS:
        if names & sent.keys():
            original = {name: value for name, value in original.items() if name not in names}
    body = {**original, **sent}
    try:
        return JobIn.model_validate(body)
    except ValidationError as error:
        # Each field is valid alone, but the combination may not be, for example without a file.
        issues = [{**issue, "loc": ("body", *issue["loc"])} for issue in error.errors(include_url=False)]
        raise to_invalid_request(to_validation_issue(issues, body)) from None


async def check_files(session: AsyncSession, job: Job) -> None:
    """Check that the job's files exist and have the right purpose. Raises ``InvalidRequest``.

    Call it in the transaction that inserts the job. It locks the files' rows, so that none is
    deleted before the commit.
    """
    for param in ("training_file", "validation_file", "general_file"):
        file_id = getattr(job, param)
        if file_id is None:
            continue
        conditions = [
            col(File.id) == file_id,
            col(File.project_id) == job.project_id,
            is_unexpired(col(File.expires_at)),
        ]
        file = (await session.execute(select(File).where(*conditions).with_for_update())).scalar_one_or_none()
        if file is None:
            raise InvalidRequest(
                "There is no such file for this key; upload it with POST /v1/files and send the id from the response.",
                param=param,
                code="file_not_found",
            )
        if file.purpose != "fine-tune":
            raise InvalidRequest(
                f"The file's purpose is '{file.purpose}'; upload it again with the purpose 'fine-tune'.",
                param=param,
                code="invalid_purpose",
            )


def _resolve_method(body: JobIn) -> Method:
    if body.method is None or body.method.type == "supervised":
        return "supervised"
    if body.method.type == "dpo":
        return "dpo"
    supported = ", ".join(sorted(TASKS_BY_METHOD))
    raise _unsupported_parameter("method.type", f"This method is not supported; send one of: {supported}.")


def _check_integrations(resources: Resources, body: JobIn) -> None:
    for index, integration in enumerate(body.integrations or []):
        if message := describe_missing_setup(integration.type, resources.settings):
            raise InvalidRequest(message, param=f"integrations.{index}.type", code="integration_unavailable")


def _unsupported_parameter(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsupported_parameter")


def _resolve_update(starting_point: StartingPoint, task: str) -> AnyUpdate:
    if starting_point.update is not None:
        return UPDATES[starting_point.update["type"]].model_validate(starting_point.update)
    return choose_default_update(task, starting_point.base.parameters)


def _resolve_task(body: JobIn, starting_point: StartingPoint) -> str:
    base = starting_point.base
    task = body.task or (starting_point.ref.task if starting_point.ref else base.tasks[0])
    if task not in TASKS or task not in base.tasks:
        supported = ", ".join(f"'{name}'" for name in base.tasks if name in TASKS)
        raise InvalidRequest(
            f"The base model '{base.id}' cannot be trained for this task; send one of: {supported}.",
            param="task",
            code="unsuitable_task",
        )
    return task


def _check_columns(body: JobIn, task: AnyTask) -> None:
    fields = task.row_schema.model_fields
    for name in body.columns or {}:
        if name not in fields:
            raise InvalidRequest(
                f"'columns' maps fields of a {task.name} row to the file's columns; send only these fields: "
                f"{', '.join(fields)}.",
                param=f"columns.{name}"[:256],
                code="invalid_value",
            )


def _merge_hyperparameters(body: JobIn, method: Method, base: BaseModelEntry) -> DpoHyperparameters:
    """Merge the method's hyperparameters with the older top-level ones. They must not differ."""
    block = getattr(body.method, method) if body.method else None
    method_hyperparameters, path = block.hyperparameters if block else None, _HYPERPARAMETERS_PATH.format(method)
    values = _dump_set_fields(method_hyperparameters)
    for name, value in _dump_set_fields(body.hyperparameters).items():
        if values.setdefault(name, value) != value:
            raise InvalidRequest(
                f"'hyperparameters.{name}' and '{path}.{name}' differ; send only the second.",
                param=f"hyperparameters.{name}",
                code="invalid_value",
            )
    try:
        merged = DpoHyperparameters.model_validate(values)
    except ValidationError as error:
        # Each object is valid alone, but the combination is not.
        raise InvalidRequest(
            error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ") + ".", param=path
        ) from None
    if merged.max_length != "auto" and merged.max_length > base.context:
        sent_path = path if "max_length" in _dump_set_fields(method_hyperparameters) else "hyperparameters"
        raise InvalidRequest(
            f"The base model '{base.id}' reads at most {base.context} tokens; lower max_length.",
            param=f"{sent_path}.max_length",
            code="invalid_value",
        )
    return merged


def _dump_set_fields(hyperparameters: Hyperparameters | None) -> dict[str, Any]:
    return hyperparameters.model_dump(exclude_unset=True) if hyperparameters else {}
