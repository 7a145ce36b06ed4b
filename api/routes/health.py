"""Whether the process lives, and whether its parts answer. No key is needed and no detail is told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response

from api.deps import RoomsDep
from api.schemas.health import Alive, Ready
from jobs.resources import Resources
from storage.blobs import Blobs, read
from storage.errors import BlobNotFound

log = logging.getLogger("luthier.api")
router = APIRouter(tags=["health"])

CHECK_SECONDS = 3.0
_PROBE_KEY, _PROBE = "health/probe", b"luthier"


@router.get("/healthz")
async def healthz() -> Alive:
    """The process lives."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Ready, "description": "A part is down."}})
async def readyz(rooms: RoomsDep, response: Response) -> Ready:
    """Database, blobs, Redis and engine answer."""
    states = await asyncio.gather(*(_check(name, check, rooms) for name, check in CHECKS.items()))
    checks = dict(zip(CHECKS, states, strict=True))
    if "down" in states:
        response.status_code = 503
        return Ready(status="not ready", checks=checks)
    return Ready(status="ready", checks=checks)


async def _check(name: str, check: Callable[[Resources], Awaitable[object]], rooms: Resources) -> Literal["ok", "down"]:
    try:
        await asyncio.wait_for(check(rooms), CHECK_SECONDS)
    # Whatever a part raises is what this route is asked about.
    except Exception as error:
        log.warning("%s is down: %s: %s", name, type(error).__name__, error)
        return "down"
    return "ok"


def _probe_blobs(blobs: Blobs) -> None:
    try:
        read(blobs, _PROBE_KEY, hashlib.sha256(_PROBE).hexdigest())
    except BlobNotFound:
        blobs.put_bytes(_PROBE_KEY, _PROBE)


CHECKS: dict[str, Callable[[Resources], Awaitable[object]]] = {
    "database": lambda rooms: rooms.db.ping(),
    "blobs": lambda rooms: asyncio.to_thread(_probe_blobs, rooms.blobs),
    "redis": lambda rooms: rooms.wakeup.ping(),
    "engine": lambda rooms: rooms.engine.ping(),
}
