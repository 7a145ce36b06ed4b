"""Routes for batches, which process a file of requests within a day."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import IdempotencyDep, PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import After, Cursor, Limit, ListOut, Paginator, to_list
from api.http.strict_json import StrictRoute
from api.schemas.batches import BatchIn, BatchOut, to_batch_out
from jobs.batches import store
from jobs.batches.input_file import MAX_BYTES
from storage.access.audit import audit
from storage.clock import is_unexpired
from storage.ids import new_id
from storage.tables import Batch, File

router = APIRouter(prefix="/batches", tags=["batches"], route_class=StrictRoute, responses=error_responses(404, 413))

BATCHES = Paginator(Batch, col(Batch.id), (col(Batch.created_at), col(Batch.id)))


@router.post("")
async def create_batch(
    body: BatchIn, resources: ResourcesDep, principal: PrincipalDep, recorder: IdempotencyDep
) -> BatchOut:
    """Create a batch, which processes every line of a file within 24 hours.

    The lines are validated afterward, in status ``validating``.
    """
    now = time.time()
    batch = Batch(
        id=new_id("batch"),
        project_id=principal.project_id,
        key_id=principal.key_id,
        created_at=now,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        meta=body.metadata,
        output_expires_after=body.output_expires_after.seconds if body.output_expires_after else None,
        status=store.VALIDATING,
        expires_at=now + store.COMPLETION_WINDOW_SECONDS,
    )
    out = to_batch_out(batch)
    async with resources.db.write() as session:
        await _check_input_file(session, principal.project_id, body.input_file_id)
        session.add(batch)
        await recorder.record(session, out)
        await audit(session, principal, "batch.created", batch.id)
    return out


@router.get("")
async def list_batches(
    resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[BatchOut]:
    """List the project's batches, newest first."""
    async with resources.db.read() as session:
        page = await BATCHES.fetch_page(session, [col(Batch.project_id) == principal.project_id], Cursor(after, limit))
    return to_list([to_batch_out(batch) for batch in page.rows], page.has_more)


@router.get("/{batch_id}")
async def retrieve_batch(batch_id: str, resources: ResourcesDep, principal: PrincipalDep) -> BatchOut:
    """Retrieve a batch with its status, counts and files."""
    async with resources.db.read() as session:
        return to_batch_out(await _get_batch_or_404(session, principal.project_id, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, resources: ResourcesDep, principal: PrincipalDep) -> BatchOut:
    """Cancel a batch within seconds.

    The output file contains the responses up to then. If the batch has ended, the response is 400.
    """
    async with resources.db.write() as session:
        batch = await store.cancel(session, principal.project_id, batch_id)
        if batch is None:
            status = (await _get_batch_or_404(session, principal.project_id, batch_id)).status
            raise InvalidRequest(
                f"This batch is {status}; only a batch that has not ended can be cancelled.",
                code="invalid_state",
                headers={"x-should-retry": "false"},
            )
        await audit(session, principal, "batch.cancelled", batch_id)
    return to_batch_out(batch)


async def _get_batch_or_404(session: AsyncSession, project_id: str, batch_id: str) -> Batch:
    query = select(Batch).where(col(Batch.id) == batch_id, col(Batch.project_id) == project_id)
    batch = (await session.execute(query)).scalar_one_or_none()
    if batch is None:
        raise NotFound("There is no such batch for this key.", param="batch_id")
    return batch


async def _check_input_file(session: AsyncSession, project_id: str, file_id: str) -> None:
    """Check the input file. Raises ``InvalidRequest``.

    The lock prevents the file's deletion before the batch's row is inserted.
    """
    conditions = [col(File.id) == file_id, col(File.project_id) == project_id, is_unexpired(col(File.expires_at))]
    file = (await session.execute(select(File).where(*conditions).with_for_update())).scalar_one_or_none()
    if file is None:
        raise _invalid_input_file(
            "There is no such file for this key; upload it with purpose 'batch'.", "file_not_found"
        )
    if file.purpose != "batch":
        raise _invalid_input_file(
            f"The file's purpose is '{file.purpose}'; upload it again with purpose 'batch'.", "invalid_purpose"
        )
    if file.bytes > MAX_BYTES:
        raise _invalid_input_file(f"The file has more than {MAX_BYTES:,} bytes; split it.", "file_too_large")


def _invalid_input_file(message: str, code: str) -> InvalidRequest:
    return InvalidRequest(message, param="input_file_id", code=code)
