"""The application: routes, what surrounds them, and the rooms they use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from api.deps import authenticated
from api.errors import handle
from api.middleware import Answering, Keyed, Limited
from api.multipart import OVERHEAD
from api.routes import files, health, inference, jobs, models
from jobs.reaper import reap_for_ever
from jobs.rooms import open_rooms
from storage.settings import Settings

PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
"""The paths that need no key."""

STALE_UPLOAD_SECONDS = 3600

# Only for the OpenAPI document; the middleware is what looks at the key.
_KEY = HTTPBearer(scheme_name="ApiKey", description="A key of `luthierd keys`: sk-luthier-…", auto_error=False)


def create_app(settings: Settings) -> FastAPI:
    """The API over one set of rooms, which open when it starts. Each process of a server calls this once."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_sweep, settings.home / "uploads")
        async with open_rooms(settings) as rooms:
            app.state.rooms = rooms
            reaping = asyncio.create_task(reap_for_ever(rooms.db, rooms.bell, settings.reap_seconds))
            yield
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)

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
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(_KEY)])
    for routes in (files, jobs, models, inference):
        v1.include_router(routes.router)
    app.include_router(v1)
    app.include_router(health.router)
    # The last one added is the outermost.
    uploads = {"/v1/files": settings.max_upload_bytes + OVERHEAD}
    app.add_middleware(Limited, default=settings.max_body_bytes, by_path=uploads)
    app.add_middleware(Keyed, public=PUBLIC, authenticate=authenticated)
    app.add_middleware(Answering)
    return app


def create_app_from_environment() -> FastAPI:
    """For ``uvicorn --factory api.app:create_app_from_environment``, with as many processes as wanted."""
    return create_app(Settings())


def _operation_id(route: APIRoute) -> str:
    return route.name


def _sweep(folder: Path) -> None:
    """Remove what a killed process left of an upload; a living one writes to its file all the time."""
    if folder.is_dir():
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > STALE_UPLOAD_SECONDS:
                path.unlink(missing_ok=True)
