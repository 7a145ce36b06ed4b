"""The FastAPI application: routes, middleware and the resources they use."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from fastapi import Depends, FastAPI, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from api.authorization import ADMIN, DATA, INFER, MODELS, SELF, routes_without_permission
from api.deps import authenticate
from api.errors import error_responses
from api.exception_handlers import handle_exception
from api.http.multipart import MULTIPART_OVERHEAD_BYTES
from api.middleware.auth import AuthenticationMiddleware
from api.middleware.body import BodyLimitMiddleware
from api.middleware.concurrency import ConcurrencyLimitMiddleware
from api.middleware.rate_limit import RateLimitMiddleware
from api.middleware.request_context import RequestContextMiddleware
from api.routes import batches, files, health, inference, models, uploads, webhooks
from api.routes.fine_tuning import checkpoints, job_actions, job_metrics, jobs, permissions, preflight
from api.routes.organization import audit_and_usage, me, project_keys, projects
from api.services.background import background_tasks
from api.services.batched_queries import BatchedQueries
from api.services.upload_assembly import MAX_CONCURRENT_ASSEMBLIES
from api.services.usage_meter import UsageMeter
from jobs.lifecycle.change_feed import open_change_feed
from jobs.lifecycle.queue_position import QueueEstimator
from jobs.preflight import PreflightRunner
from jobs.resources import open_resources
from storage.access.limits import Limits
from storage.settings import Settings

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
"""Paths that need no key."""

ROUTERS: tuple[tuple[ModuleType, params.Depends], ...] = (
    # First, because clients poll its routes.
    (jobs, DATA),
    (files, DATA),
    (uploads, DATA),
    (job_actions, DATA),
    (job_metrics, DATA),
    (preflight, DATA),
    (permissions, ADMIN),
    (checkpoints, DATA),
    (models, MODELS),
    (inference, INFER),
    (batches, DATA),
    (webhooks, DATA),
    (projects, ADMIN),
    (project_keys, ADMIN),
    (audit_and_usage, ADMIN),
    (me, SELF),
)
"""Routers under ``/v1`` and their permissions (:mod:`api.authorization`), in the order of
matching."""

STALE_UPLOAD_SECONDS = 3600

SWITCH_INTERVAL_SECONDS = 0.0005
"""Python's default is ten times as long."""

# Only for the OpenAPI document. The middleware checks the key.
_API_KEY_SCHEME = HTTPBearer(
    scheme_name="ApiKey", description="A key created with `luthierd keys`: sk-luthier-…", auto_error=False
)


def create_app(settings: Settings) -> FastAPI:
    """Create the application.

    Its resources open at startup. Each process of a server calls this once.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_remove_stale_uploads, settings.home / "uploads")
        async with open_resources(settings) as resources:
            app.state.resources = resources
            app.state.batched_queries = BatchedQueries(resources.db, Limits.from_attributes(settings))
            app.state.preflight_runner = PreflightRunner(settings)
            app.state.assembly_slots = asyncio.Semaphore(MAX_CONCURRENT_ASSEMBLIES)
            app.state.usage_meter = UsageMeter(resources.db, resources.redis_scripts)
            app.state.queue_estimator = QueueEstimator(resources.db)
            async with (
                background_tasks(resources, app.state.usage_meter),
                open_change_feed(resources.db) as app.state.change_feed,
            ):
                yield
            await app.state.preflight_runner.close()

    app = FastAPI(
        title="Luthier",
        summary="Self-hosted fine-tuning with OpenAI's API.",
        version=version("luthier"),
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=_generate_operation_id,
        exception_handlers={HTTPException: handle_exception, RequestValidationError: handle_exception},
    )
    for module, permission in ROUTERS:
        # Directly into the application: FastAPI matches a request again in every nested router.
        app.include_router(
            module.router,
            prefix="/v1",
            dependencies=[Depends(_API_KEY_SCHEME), permission],
            responses=error_responses(403),
        )
    app.include_router(health.router)
    if unprotected := routes_without_permission(app.routes, PUBLIC_PATHS):
        raise RuntimeError(f"routes without a permission: {unprotected}; add their router to ROUTERS")
    _add_middleware(app, settings)
    return app


def create_app_from_environment() -> FastAPI:
    """Create the application for ``uvicorn --factory api.app:create_app_from_environment``."""
    app = create_app(Settings())
    # Otherwise, Python's garbage collector scans all imported objects every few seconds. That
    # blocks requests for a fifth of a second.
    gc.collect()
    gc.freeze()
    # A database thread waits for up to this interval to get the interpreter back from the event
    # loop.
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    # The last one added is the outermost.
    body_limits = {
        "/v1/files": settings.max_upload_bytes + MULTIPART_OVERHEAD_BYTES,
        "/v1/uploads/[^/]+/parts": uploads.MAX_PART_BYTES + MULTIPART_OVERHEAD_BYTES,
    }
    app.add_middleware(
        BodyLimitMiddleware,
        default_limit=settings.max_body_bytes,
        per_path_limits=body_limits,
        timeout_seconds=settings.body_seconds,
    )
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(AuthenticationMiddleware, public_paths=PUBLIC_PATHS, authenticate=authenticate)
    # An event stream lasts as long as its job.
    stream_limits = {"/v1/fine_tuning/jobs/[^/]+/(events|metrics)/stream": settings.max_event_streams}
    app.add_middleware(
        ConcurrencyLimitMiddleware,
        public_paths=PUBLIC_PATHS,
        limit=settings.max_requests,
        per_path_limits=stream_limits,
    )
    app.add_middleware(RequestContextMiddleware)


def _generate_operation_id(route: APIRoute) -> str:
    return route.name


def _remove_stale_uploads(folder: Path) -> None:
    """Delete files that killed processes left behind.

    A running upload keeps writing to its file.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            # Another process's upload may end at the same time.
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_UPLOAD_SECONDS:
                    path.unlink()
