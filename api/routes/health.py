"""Health checks of the process and its services. They need no key and reveal no details."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response

from api.deps import ResourcesDep
from api.schemas.health import Liveness, Readiness
from jobs.resources import Resources
from storage.blobs import Blobs, read
from storage.errors import BlobNotFound

log = logging.getLogger("luthier.api")
router = APIRouter(tags=["health"])

CHECK_TIMEOUT_SECONDS = 3.0
_PROBE_KEY, _PROBE_BYTES = "health/probe", b"luthier"


@router.get("/healthz")
async def healthz() -> Liveness:
    """Check that the process is running."""
    return Liveness()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A service is down."}})
async def readyz(resources: ResourcesDep, response: Response) -> Readiness:
    """Check that the database, the blob storage, Redis and the engine respond."""
    states = await asyncio.gather(*(_run_check(name, check, resources) for name, check in CHECKS.items()))
    checks = dict(zip(CHECKS, states, strict=True))
    if "down" in states:
        response.status_code = 503
        return Readiness(status="not ready", checks=checks)
    return Readiness(status="ready", checks=checks)


async def _run_check(
    name: str, check: Callable[[Resources], Awaitable[object]], resources: Resources
) -> Literal["ok", "down"]:
    try:
        await asyncio.wait_for(check(resources), CHECK_TIMEOUT_SECONDS)
    # Any exception means that the service is down.
    except Exception as error:
        log.warning("%s is down: %s: %s", name, type(error).__name__, error)
        return "down"
    return "ok"


def _probe_blobs(blobs: Blobs) -> None:
    try:
        read(blobs, _PROBE_KEY, hashlib.sha256(_PROBE_BYTES).hexdigest())
    except BlobNotFound:
        blobs.put_bytes(_PROBE_KEY, _PROBE_BYTES)


CHECKS: dict[str, Callable[[Resources], Awaitable[object]]] = {
    "database": lambda resources: resources.db.ping(),
    "blobs": lambda resources: resources.probe_thread.run(_probe_blobs, resources.blobs),
    "redis": lambda resources: resources.wakeup.ping(),
    "engine": lambda resources: resources.engine.ping(),
}
