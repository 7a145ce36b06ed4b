"""From the body of a new job to its row: every check that needs no look into the files."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import InvalidRequest, invalid
from api.http.idempotency import Once
from api.schemas.fine_tuning.jobs import CloneIn, JobIn, JobOut
from api.schemas.serializers import job_out
from api.services.job_validation import check_options, check_update, learner
from api.services.starting_point import Beginning, beginning
from inference.protocol.validation import fault_of
from jobs.integrations import missing
from jobs.lifecycle import transitions
from jobs.resources import Resources
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.clock import unexpired
from storage.ids import new_id
from storage.registry import BaseModelEntry
from storage.tables import File, Job
from training.hyperparameters.auto import default_update
from training.spec import DpoHyperparameters, Hyperparameters, Method
from training.tasks import METHODS, TASKS
from training.tasks.base import AnyTask
from training.updates import UPDATES, AnyUpdate

_PLACE = "method.{}.hyperparameters"
_SAME_THING = (frozenset({"model", "from_checkpoint"}), frozenset({"method", "hyperparameters"}))
"""Fields of which one says what another would."""
_ALWAYS = frozenset({"model", "training_file"})
"""What every job has: a null leaves that of a clone's source."""


async def new_job(rooms: Resources, project_id: str, body: JobIn) -> Job:
    """The row to be; its files are checked by :func:`check_files`. Raises ``InvalidRequest``, ``ModelNotPulled``."""
    method = _method(body)
    _check_integrations(rooms, body)
    begun = await beginning(rooms, project_id, body.model, body.from_checkpoint)
    task = _task(body, begun)
    able = learner(method, task)
    _check_columns(body, able)
    update = body.update or _usual_update(begun, task)
    check_update(update.type, able)
    begun.check(task, update)
    hyperparameters = _hyperparameters(body, method, begun.base)
    check_options(hyperparameters, body, able, _PLACE.format(method))
    return Job(
        id=new_id("job"),
        project_id=project_id,
        created_at=time.time(),
        base_model=begun.base.id,
        start=begun.row,
        task=task,
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
        integrations=[one.model_dump() for one in body.integrations or []] or None,
        checkpoint_ttl_seconds=body.checkpoint_ttl_seconds,
        auto_start=body.auto_start,
        request=body.model_dump(mode="json", exclude_unset=True),
    )


async def make_job(rooms: Resources, principal: Principal, body: JobIn, once: Once) -> JobOut:
    """Insert it and have a worker look. Raises ``InvalidRequest``, ``ModelNotPulled``."""
    job = await new_job(rooms, principal.project_id, body)
    job.key_id = principal.key_id
    async with rooms.db.write() as session:
        await check_files(session, job)
        await transitions.create(session, job)
        await once.record(session, job_out(job, principal.organization_id))
        await audit(session, principal, "fine_tuning.job.created", job.id)
    # After the commit: whoever hears the bell finds the row. A lost ring costs a worker's poll interval.
    await rooms.wakeup.notify(job.id, job.attempt)
    return job_out(job, principal.organization_id)


def cloned(source: Job, changes: CloneIn) -> JobIn:
    """What was asked for ``source``, but for ``changes``. Raises ``InvalidRequest``."""
    if source.request is None:
        raise InvalidRequest(
            "This job was made before requests were kept, so it cannot be cloned; create a new one.",
            code="invalid_state",
            headers={"x-should-retry": "false"},
        )
    sent = changes.model_dump(mode="json", exclude_unset=True)
    sent = {name: value for name, value in sent.items() if value is not None or name not in _ALWAYS}
    asked = {"seed": source.seed, **source.request}
    for names in _SAME_THING:
        if names & sent.keys():
            asked = {name: value for name, value in asked.items() if name not in names}
    whole = {**asked, **sent}
    try:
        return JobIn.model_validate(whole)
    except ValidationError as error:
        # What each field may be fits; what they are together need not, such as a null that takes the file away.
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise invalid(fault_of(faults, whole)) from None


async def check_files(session: AsyncSession, job: Job) -> None:
    """In the transaction that inserts the job, and with the rows locked, so that no file is deleted meanwhile."""
    for param in ("training_file", "validation_file", "general_file"):
        file_id = getattr(job, param)
        if file_id is None:
            continue
        mine = [col(File.id) == file_id, col(File.project_id) == job.project_id, unexpired(col(File.expires_at))]
        file = (await session.execute(select(File).where(*mine).with_for_update())).scalar_one_or_none()
        if file is None:
            raise InvalidRequest(
                "There is no such file for this key; upload it with POST /v1/files and send the id that it answers.",
                param=param,
                code="file_not_found",
            )
        if file.purpose != "fine-tune":
            raise InvalidRequest(
                f"The file's purpose is '{file.purpose}'; upload it with the purpose 'fine-tune'.",
                param=param,
                code="invalid_purpose",
            )


def _method(body: JobIn) -> Method:
    if body.method is None or body.method.type == "supervised":
        return "supervised"
    if body.method.type == "dpo":
        return "dpo"
    offered = ", ".join(sorted(METHODS))
    raise _unsupported("method.type", f"This method is not offered yet; it can be: {offered}.")


def _check_integrations(rooms: Resources, body: JobIn) -> None:
    for place, one in enumerate(body.integrations or []):
        if lacking := missing(one.type, rooms.settings):
            raise InvalidRequest(lacking, param=f"integrations.{place}.type", code="integration_unavailable")


def _unsupported(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsupported_parameter")


def _usual_update(begun: Beginning, task: str) -> AnyUpdate:
    if begun.update is not None:
        return UPDATES[begun.update["type"]].model_validate(begun.update)
    return default_update(task, begun.base.parameters)


def _task(body: JobIn, begun: Beginning) -> str:
    base = begun.base
    task = body.task or (begun.start.task if begun.start else base.tasks[0])
    if task not in TASKS or task not in base.tasks:
        offered = ", ".join(f"'{name}'" for name in base.tasks if name in TASKS)
        raise InvalidRequest(
            f"The base model '{base.id}' cannot be trained for this task; it can be for {offered}.",
            param="task",
            code="unsuitable_task",
        )
    return task


def _check_columns(body: JobIn, task: AnyTask) -> None:
    fields = task.row.model_fields
    for name in body.columns or {}:
        if name not in fields:
            raise InvalidRequest(
                f"'columns' maps fields of a {task.name} row to the file's columns; the fields are: "
                f"{', '.join(fields)}.",
                param=f"columns.{name}"[:256],
                code="invalid_value",
            )


def _hyperparameters(body: JobIn, method: Method, base: BaseModelEntry) -> DpoHyperparameters:
    """Those of ``method``, and those in the older place, which may repeat but not contradict them."""
    block = getattr(body.method, method) if body.method else None
    newer, place = block.hyperparameters if block else None, _PLACE.format(method)
    values = _sent(newer)
    for name, value in _sent(body.hyperparameters).items():
        if values.setdefault(name, value) != value:
            raise InvalidRequest(
                f"'hyperparameters.{name}' and '{place}.{name}' differ; send the second only.",
                param=f"hyperparameters.{name}",
                code="invalid_value",
            )
    try:
        found = DpoHyperparameters.model_validate(values)
    except ValidationError as error:
        # Each place was valid; together they are not.
        raise InvalidRequest(
            error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ") + ".", param=place
        ) from None
    if found.max_length != "auto" and found.max_length > base.context:
        where = place if "max_length" in _sent(newer) else "hyperparameters"
        raise InvalidRequest(
            f"The base model '{base.id}' reads at most {base.context} tokens.",
            param=f"{where}.max_length",
            code="invalid_value",
        )
    return found


def _sent(hyperparameters: Hyperparameters | None) -> dict[str, Any]:
    return hyperparameters.model_dump(exclude_unset=True) if hyperparameters else {}
