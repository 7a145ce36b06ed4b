"""The application: routes, what surrounds them, and the rooms they use."""

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

from api.authorization import ADMIN, DATA, INFER, ITSELF, MODELS, unchecked
from api.deps import authenticated
from api.errors import documented, handle
from api.http.multipart import OVERHEAD
from api.middleware.auth import AuthenticationMiddleware
from api.middleware.body import BodyLimitMiddleware
from api.middleware.concurrency import ConcurrencyLimitMiddleware
from api.middleware.rate_limit import RateLimitMiddleware
from api.middleware.request_context import RequestContextMiddleware
from api.routes import batches, files, health, inference, models, uploads, webhooks
from api.routes.fine_tuning import checkpoints, job_actions, job_metrics, jobs, permissions, preflight
from api.routes.organization import audit_and_usage, me, project_keys, projects
from api.services.background import upkeep
from api.services.batched_queries import Lookups
from api.services.upload_assembly import AT_ONCE
from api.services.usage_meter import Meter
from jobs.lifecycle.change_feed import watching
from jobs.lifecycle.queue_position import Outlook
from jobs.preflight import Desk
from jobs.resources import open_resources
from storage.access.limits import Limits
from storage.settings import Settings

PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
"""The paths that need no key."""

ROUTERS: tuple[tuple[ModuleType, params.Depends], ...] = (
    # First, because that is what clients poll.
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
    (me, ITSELF),
)
"""Everything under ``/v1``, with what it asks of a key's role (:mod:`api.authorization`), in the order of matching."""

STALE_UPLOAD_SECONDS = 3600

SWITCH_SECONDS = 0.0005
"""Python's own is ten times as long."""

# Only for the OpenAPI document; the middleware is what looks at the key.
_KEY = HTTPBearer(scheme_name="ApiKey", description="A key of `luthierd keys`: sk-luthier-…", auto_error=False)


def create_app(settings: Settings) -> FastAPI:
    """The API over one set of rooms, which open when it starts. Each process of a server calls this once."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_sweep, settings.home / "uploads")
        async with open_resources(settings) as rooms:
            app.state.rooms = rooms
            app.state.lookups = Lookups(rooms.db, Limits.of(settings))
            app.state.desk = Desk(settings)
            app.state.assemblies = asyncio.Semaphore(AT_ONCE)
            app.state.meter = Meter(rooms.db, rooms.scripts)
            app.state.outlook = Outlook(rooms.db)
            async with upkeep(rooms, app.state.meter), watching(rooms.db) as app.state.watch:
                yield
            await app.state.desk.close()

    app = FastAPI(
        title="Luthier",
        summary="Fine-tuning as a service on your own machines, on OpenAI's wire.",
        version=version("luthier"),
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=_operation_id,
        exception_handlers={HTTPException: handle, RequestValidationError: handle},
    )
    for module, needed in ROUTERS:
        # Straight into the application: FastAPI matches a request anew in every router that it lies in.
        app.include_router(module.router, prefix="/v1", dependencies=[Depends(_KEY), needed], responses=documented(403))
    app.include_router(health.router)
    if open_to_all := unchecked(app.routes, PUBLIC):
        raise RuntimeError(f"no role is asked for at {open_to_all}; give their router a line in ROUTERS")
    # The last one added is the outermost.
    larger = {
        "/v1/files": settings.max_upload_bytes + OVERHEAD,
        "/v1/uploads/[^/]+/parts": uploads.MAX_PART_BYTES + OVERHEAD,
    }
    app.add_middleware(
        BodyLimitMiddleware, default=settings.max_body_bytes, by_path=larger, seconds=settings.body_seconds
    )
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(AuthenticationMiddleware, public=PUBLIC, authenticate=authenticated)
    # Who follows a job stays for as long as it runs.
    followers = {"/v1/fine_tuning/jobs/[^/]+/(events|metrics)/stream": settings.max_followers}
    app.add_middleware(ConcurrencyLimitMiddleware, public=PUBLIC, most=settings.max_requests, apart=followers)
    app.add_middleware(RequestContextMiddleware)
    return app


def create_app_from_environment() -> FastAPI:
    """For ``uvicorn --factory api.app:create_app_from_environment``, with as many processes as wanted."""
    app = create_app(Settings())
    # Python would look through all that was imported and built every few seconds, for a fifth of a second in which
    # nobody is answered.
    gc.collect()
    gc.freeze()
    # A database's thread that has an answer waits this long for the event loop's, for every statement.
    sys.setswitchinterval(SWITCH_SECONDS)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _sweep(folder: Path) -> None:
    """Remove what a killed process left of an upload; a living one writes to its file all the time."""
    if folder.is_dir():
        for path in folder.iterdir():
            # Another process's upload may end meanwhile.
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_UPLOAD_SECONDS:
                    path.unlink()
