"""What routes ask for by annotation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from api.http.idempotency import Once, once_of
from api.services.batched_queries import Lookups
from api.services.usage_meter import Meter
from jobs.resources import Resources
from storage.access.keys import Principal

# All are async, though they wait for nothing: FastAPI would run others in a thread, which takes longer than they do.


async def rooms_of(request: Request) -> Resources:
    rooms: Resources = request.app.state.rooms
    return rooms


async def principal_of(request: Request) -> Principal:
    """Whose key the request carries; the middleware let no other request in."""
    principal: Principal = request.state.principal
    return principal


async def meter_of(request: Request) -> Meter:
    meter: Meter = request.app.state.meter
    return meter


async def lookups_of(request: Request) -> Lookups:
    lookups: Lookups = request.app.state.lookups
    return lookups


async def authenticated(scope: Scope, key: str) -> Principal | None:
    lookups: Lookups = scope["app"].state.lookups
    return await lookups.principal(key)


RoomsDep = Annotated[Resources, Depends(rooms_of)]
PrincipalDep = Annotated[Principal, Depends(principal_of)]
MeterDep = Annotated[Meter, Depends(meter_of)]
OnceDep = Annotated[Once, Depends(once_of)]
"""For routes that make something: :meth:`Once.keep` in the transaction that makes it."""
