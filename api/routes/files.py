"""Files: bytes in, as they came, and out again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from pydantic import Field, ValidationError
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, RequestInProgress, error_responses, to_invalid_request
from api.http.idempotency import get_response_recorder, is_replayed, run_idempotent_form
from api.http.multipart import nest_fields, receive_file
from api.http.pagination import FILES, After, Cursor, Digits, Direction, ListOut, to_list
from api.http.streaming import verify_stream
from api.http.strict_json import StrictRoute
from api.schemas.files import (
    MAX_LIFETIME_SECONDS,
    MIN_LIFETIME_SECONDS,
    FileDeleted,
    FileForm,
    FileOut,
    UploadPurpose,
    resolve_lifetime,
    to_file_out,
)
from api.services.quota import check_quota
from inference.protocol.validation import to_validation_issue
from jobs.blob_keys import files_prefix
from jobs.retention.expiry import delete_blobs
from jobs.retention.file_references import build_reference_queries
from storage.access.audit import audit
from storage.clock import is_unexpired
from storage.ids import new_id
from storage.tables import File

router = APIRouter(prefix="/files", tags=["files"], route_class=StrictRoute, responses=error_responses(404, 413))

_FORM_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(get_args(UploadPurpose))},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": MIN_LIFETIME_SECONDS,
                            "maximum": MAX_LIFETIME_SECONDS,
                        },
                    },
                }
            }
        },
    }
}

PurposeFilter = Annotated[str | None, Query(max_length=64, description="Only files with this purpose.")]
FileLimit = Annotated[int, Field(ge=0, le=10_000), Digits, Query(description="Objects on one page.")]


@router.post("", response_model=FileOut, openapi_extra=_FORM_OPENAPI)
async def create_file(request: Request, resources: ResourcesDep, principal: PrincipalDep) -> Response:
    """Upload a file. Its bytes are stored as they come; a job that names it reads them.

    With ``expires_after`` it goes by itself; a ``batch`` file does so after 30 days where nothing is asked.
    """
    settings = resources.settings
    async with receive_file(request, settings.home / "uploads", "file", settings.max_upload_bytes) as sent:
        form = _parse_form(sent.fields)
        file_id, now = new_id("file"), time.time()
        key = f"{files_prefix(principal.project_id)}/{file_id}"
        stored = await asyncio.to_thread(resources.blobs.put_file, key, sent.path)
    life = resolve_lifetime(form.purpose, form.expires_after)
    file = File(
        id=file_id,
        project_id=principal.project_id,
        created_at=now,
        filename=sent.filename,
        purpose=form.purpose,
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
        expires_at=None if life is None else now + life,
    )

    async def insert(request: Request) -> Response:
        once, out = await get_response_recorder(request), to_file_out(file)
        async with resources.db.write() as session:
            await check_quota(session, principal, file.bytes)
            session.add(file)
            await once.record(session, out)
            await audit(session, principal, "file.created", file.id)
        return JSONResponse(out.model_dump())

    try:
        answer = await run_idempotent_form(request, insert, sent.filename, form.purpose, life, stored.sha256)
    except (InvalidRequest, RequestInProgress):
        await delete_blobs(resources.blobs, [key])
        raise
    if is_replayed(answer):
        await delete_blobs(resources.blobs, [key])
    return answer


@router.get("")
async def list_files(
    resources: ResourcesDep,
    principal: PrincipalDep,
    purpose: PurposeFilter = None,
    limit: FileLimit = 10_000,
    order: Direction = "desc",
    after: After = None,
) -> ListOut[FileOut]:
    """The project's files, the newest first."""
    there = [col(File.project_id) == principal.project_id, is_unexpired(col(File.expires_at))]
    filters = [] if purpose is None else [col(File.purpose) == purpose]
    async with resources.db.read() as session:
        page = await FILES.fetch_page(session, there, Cursor(after, limit, order), filters)
    return to_list([to_file_out(file) for file in page.rows], page.has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> FileOut:
    """One file's facts."""
    async with resources.db.read() as session:
        return to_file_out(await _get_file_or_404(session, principal.project_id, file_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> FileDeleted:
    """Delete a file and its bytes. Refused while a job or a batch that has not ended needs it."""
    async with resources.db.write() as session:
        file = await _get_file_or_404(session, principal.project_id, file_id, lock=True)
        for kind, query in build_reference_queries(principal.project_id, file_id).items():
            user = (await session.execute(query.limit(1))).scalar_one_or_none()
            if user is not None:
                raise InvalidRequest(
                    f"The {kind} {user} needs this file; cancel the {kind} or wait for its end.",
                    param="file_id",
                    code="file_in_use",
                )
        await session.execute(delete(File).where(col(File.id) == file_id))
        await audit(session, principal, "file.deleted", file_id)
    await delete_blobs(resources.blobs, [file.blob_key])
    return FileDeleted(id=file_id)


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes as they were uploaded."}},
)
async def retrieve_file_content(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> StreamingResponse:
    """The file's bytes, verified while they are sent: damaged ones end short of the content-length."""
    async with resources.db.read() as session:
        file = await _get_file_or_404(session, principal.project_id, file_id)
    chunks = await verify_stream(lambda: resources.blobs.stream(file.blob_key, file.sha256))
    headers = {"content-length": str(file.bytes), "x-content-sha256": file.sha256}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


async def _get_file_or_404(session: AsyncSession, project_id: str, file_id: str, *, lock: bool = False) -> File:
    there = [col(File.id) == file_id, col(File.project_id) == project_id, is_unexpired(col(File.expires_at))]
    query = select(File).where(*there)
    file = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if file is None:
        raise NotFound("There is no such file for this key.", param="file_id")
    return file


def _parse_form(fields: Mapping[str, str]) -> FileForm:
    """Raises ``InvalidRequest``."""
    found = nest_fields(fields)
    try:
        return FileForm.model_validate_strings(found, strict=False)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise to_invalid_request(to_validation_issue(faults, found)) from None
