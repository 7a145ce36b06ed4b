"""What routes ask for by annotation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from jobs.rooms import Rooms
from storage.keys import Principal, authenticate


def rooms_of(request: Request) -> Rooms:
    rooms: Rooms = request.app.state.rooms
    return rooms


def principal_of(request: Request) -> Principal:
    """Whose key the request carries; the middleware let no other request in."""
    principal: Principal = request.state.principal
    return principal


async def authenticated(scope: Scope, key: str) -> Principal | None:
    rooms: Rooms = scope["app"].state.rooms
    async with rooms.db.read() as session:
        return await authenticate(session, key)


RoomsDep = Annotated[Rooms, Depends(rooms_of)]
PrincipalDep = Annotated[Principal, Depends(principal_of)]
