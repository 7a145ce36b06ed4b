"""Routes for files, which are stored unchanged."""

from __future__ import annotations

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
FileLimit = Annotated[int, Field(ge=0, le=10_000), Digits, Query(description="Maximum number of objects per page.")]


@router.post("", response_model=FileOut, openapi_extra=_FORM_OPENAPI)
async def create_file(request: Request, resources: ResourcesDep, principal: PrincipalDep) -> Response:
    """Upload a file. Its bytes are stored unchanged, and the jobs that use it read them.

    With ``expires_after`` the file is deleted after that time. A ``batch`` file is deleted after 30
    days by default; other files do not expire.
    """
    settings = resources.settings
    async with receive_file(request, settings.home / "uploads", "file", settings.max_upload_bytes) as upload:
        form = _parse_form(upload.fields)
        file_id, now = new_id("file"), time.time()
        key = f"{files_prefix(principal.project_id)}/{file_id}"
        stored = await resources.blob_threads.run(resources.blobs.put_file, key, upload.path)
    lifetime = resolve_lifetime(form.purpose, form.expires_after)
    file = File(
        id=file_id,
        project_id=principal.project_id,
        created_at=now,
        filename=upload.filename,
        purpose=form.purpose,
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
        expires_at=None if lifetime is None else now + lifetime,
    )

    async def insert(request: Request) -> Response:
        recorder, out = await get_response_recorder(request), to_file_out(file)
        async with resources.db.write() as session:
            await check_quota(session, principal, file.bytes)
            session.add(file)
            await recorder.record(session, out)
            await audit(session, principal, "file.created", file.id)
        return JSONResponse(out.model_dump())

    try:
        response = await run_idempotent_form(request, insert, upload.filename, form.purpose, lifetime, stored.sha256)
    except (InvalidRequest, RequestInProgress):
        await delete_blobs(resources, [key])
        raise
    if is_replayed(response):
        await delete_blobs(resources, [key])
    return response


@router.get("")
async def list_files(
    resources: ResourcesDep,
    principal: PrincipalDep,
    purpose: PurposeFilter = None,
    limit: FileLimit = 10_000,
    order: Direction = "desc",
    after: After = None,
) -> ListOut[FileOut]:
    """List the project's files, newest first."""
    conditions = [col(File.project_id) == principal.project_id, is_unexpired(col(File.expires_at))]
    filters = [] if purpose is None else [col(File.purpose) == purpose]
    async with resources.db.read() as session:
        page = await FILES.fetch_page(session, conditions, Cursor(after, limit, order), filters)
    return to_list([to_file_out(file) for file in page.rows], page.has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> FileOut:
    """Retrieve the metadata of a file."""
    async with resources.db.read() as session:
        return to_file_out(await _get_file_or_404(session, principal.project_id, file_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> FileDeleted:
    """Delete a file and its bytes.

    If an unfinished job or batch needs the file, the response is 400.
    """
    async with resources.db.write() as session:
        file = await _get_file_or_404(session, principal.project_id, file_id, lock=True)
        for kind, query in build_reference_queries(principal.project_id, file_id).items():
            owner_id = (await session.execute(query.limit(1))).scalar_one_or_none()
            if owner_id is not None:
                raise InvalidRequest(
                    f"The {kind} {owner_id} needs this file; cancel the {kind} or wait until it ends.",
                    param="file_id",
                    code="file_in_use",
                )
        await session.execute(delete(File).where(col(File.id) == file_id))
        await audit(session, principal, "file.deleted", file_id)
    await delete_blobs(resources, [file.blob_key])
    return FileDeleted(id=file_id)


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes of the file, unchanged."}},
)
async def retrieve_file_content(file_id: str, resources: ResourcesDep, principal: PrincipalDep) -> StreamingResponse:
    """Download a file. Its bytes are verified while they are sent.

    If they are damaged, the response is shorter than its content-length.
    """
    async with resources.db.read() as session:
        file = await _get_file_or_404(session, principal.project_id, file_id)
    chunks = await verify_stream(lambda: resources.blobs.stream(file.blob_key, file.sha256))
    headers = {"content-length": str(file.bytes), "x-content-sha256": file.sha256}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


async def _get_file_or_404(session: AsyncSession, project_id: str, file_id: str, *, lock: bool = False) -> File:
    conditions = [col(File.id) == file_id, col(File.project_id) == project_id, is_unexpired(col(File.expires_at))]
    query = select(File).where(*conditions)
    file = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if file is None:
        raise NotFound("There is no such file for this key.", param="file_id")
    return file


def _parse_form(fields: Mapping[str, str]) -> FileForm:
    """Validate the form fields. Raises ``InvalidRequest``."""
    form = nest_fields(fields)
    try:
        return FileForm.model_validate_strings(form, strict=False)
    except ValidationError as error:
        issues = [{**issue, "loc": ("body", *issue["loc"])} for issue in error.errors(include_url=False)]
        raise to_invalid_request(to_validation_issue(issues, form)) from None
