"""Routes for base models, the project's own models, and downloads of their weights.

Ids may contain slashes and colons, which clients percent-encode and servers decode before routing.
Therefore the routes use ``:path``.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from api.deps import PrincipalDep, ResourcesDep
from api.errors import Forbidden, error_responses
from api.http.streaming import verify_stream
from api.http.strict_json import StrictRoute
from api.schemas.models import (
    ModelDeleted,
    ModelOut,
    ModelsOut,
    to_base_model_out,
    to_checkpoint_model_out,
    to_tuned_model_out,
)
from api.services import model_queries
from inference.protocol.disconnect import cancel_on_disconnect
from inference.protocol.model_ref import ModelRef, Variant
from jobs import model_lookup
from jobs.resources import Resources
from storage.access.audit import audit
from storage.folders import delete_folder
from storage.registry import BaseModelEntry
from storage.tables import CheckpointPermission, Export, Model

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictRoute, responses=error_responses(403, 404))

PRESIGNED_URL_SECONDS = 300

DownloadVariant = Annotated[
    Variant, Query(description="Only the trained weights, or the base model with these weights merged into it.")
]


@router.get("")
async def list_models(resources: ResourcesDep, principal: PrincipalDep) -> ModelsOut:
    """List base models, then the project's models, oldest first, then models shared with it."""
    conditions = [col(Model.project_id) == principal.project_id, col(Model.deleted_at).is_(None)]
    query = select(Model).where(*conditions).order_by(col(Model.created_at), col(Model.id))
    async with resources.db.read() as session:
        models = (await session.execute(query)).scalars().all()
    shared = await model_lookup.list_shared_models(resources, principal.project_id)
    return ModelsOut(
        data=[
            *map(to_base_model_out, resources.registry.list()),
            *map(to_tuned_model_out, models),
            *map(_to_model_out, shared),
        ]
    )


# Before the path routes below, which would read ``download`` as part of the id.
@router.get(
    "/{model:path}/download",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/zip": {}},
            "description": "A zip file. The header x-content-sha256 has its SHA-256.",
        },
        302: {"description": "Redirect to the zip file in the bucket, valid for a few minutes."},
    },
)
async def download_model(
    model: str, request: Request, resources: ResourcesDep, principal: PrincipalDep, variant: DownloadVariant = "adapter"
) -> Response:
    """Download a model as a zip file of safetensors, configuration and tokenizer."""
    ref = await model_queries.get_tuned_model_or_404(resources, principal.project_id, model)
    export = await _load_export(resources, ref, variant)
    if export is None:
        export = await cancel_on_disconnect(request, _create_export(resources, ref, variant))
    filename = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{ref.id}-{variant}.zip")
    headers = {"x-content-sha256": export.sha256}
    url = await resources.blob_threads.run(resources.blobs.presign, export.blob_key, filename, PRESIGNED_URL_SECONDS)
    if url is not None:
        return RedirectResponse(url, 302, headers)
    chunks = await verify_stream(lambda: resources.blobs.stream(export.blob_key, export.sha256))
    headers |= {
        "content-length": str(export.bytes),
        "content-disposition": f'attachment; filename="{filename}"',
    }
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


@router.get("/{model:path}")
async def retrieve_model(model: str, resources: ResourcesDep, principal: PrincipalDep) -> ModelOut:
    """Retrieve a model by id or alias."""
    match = await model_lookup.find_model(resources, principal.project_id, model)
    if match is None:
        raise model_queries.model_not_found()
    return to_base_model_out(match) if isinstance(match, BaseModelEntry) else _to_model_out(match)


@router.delete("/{model:path}")
async def delete_model(model: str, resources: ResourcesDep, principal: PrincipalDep) -> ModelDeleted:
    """Delete a fine-tuned model and its bytes.

    Base models belong to the operator. Delete checkpoints through their job.
    """
    match = await model_lookup.find_model(resources, principal.project_id, model)
    if match is None:
        raise model_queries.model_not_found()
    if not isinstance(match, Model):
        raise Forbidden("Only a fine-tuned model can be deleted here, not a base model or a checkpoint.", param="model")
    if match.project_id != principal.project_id:
        raise Forbidden(
            "This model belongs to another project and is shared for use only; delete it with a key of that project.",
            param="model",
        )
    async with resources.db.write() as session:
        conditions = [col(Model.id) == match.id, col(Model.deleted_at).is_(None)]
        await session.execute(update(Model).where(*conditions).values(deleted_at=time.time()))
        await session.execute(
            delete(CheckpointPermission).where(col(CheckpointPermission.checkpoint_model) == match.id)
        )
        delete_exports = delete(Export).where(col(Export.model_id) == match.id).returning(col(Export.blob_key))
        keys = list((await session.execute(delete_exports)).scalars())
        await audit(session, principal, "model.deleted", match.id)
    await resources.blob_threads.run(delete_folder, resources.blobs, match.prefix)
    for key in keys:
        await resources.blob_threads.run(resources.blobs.delete, key)
    return ModelDeleted(id=match.id)


def _to_model_out(model: Model | ModelRef) -> ModelOut:
    if isinstance(model, Model):
        return to_tuned_model_out(model)
    return to_checkpoint_model_out(model, model_queries.get_job_path(model).project_id)


async def _load_export(resources: Resources, ref: ModelRef, variant: Variant) -> Export | None:
    async with resources.db.read() as session:
        return await session.get(Export, (ref.id, variant))


async def _create_export(resources: Resources, ref: ModelRef, variant: Variant) -> Export:
    """Create the zip file in the engine and store it.

    The same weights always give the same zip file.
    """
    result = await resources.engine.export(ref, variant)
    export = Export(
        model_id=ref.id,
        variant=variant,
        created_at=time.time(),
        blob_key=result["blob_key"],
        sha256=result["sha256"],
        bytes=result["bytes"],
    )
    with suppress(IntegrityError):
        async with resources.db.write() as session:
            session.add(export)
    return export
