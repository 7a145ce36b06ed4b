"""Live stream of a job's events as server-sent events.

The ``id`` of every event is its number in the job. A client that reconnects with it in
``Last-Event-ID`` misses no event and receives none twice. The stream ends with an event ``done``
when the job has ended. A stream that ends without it was interrupted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, select
from sqlmodel import col
from starlette.responses import StreamingResponse

from api.http.pagination import Digits
from jobs.lifecycle.change_feed import JobChangeFeed
from jobs.lifecycle.states import TERMINAL, WIRE_STATUS
from storage.db import Database
from storage.errors import StorageUnavailable
from storage.tables import Event, Job

log = logging.getLogger("luthier.api")

PING_SECONDS = 10.0
"""Silence after which a comment line shows the client and proxies that the stream is alive."""
MAX_EVENTS_PER_QUERY = 500
"""Events that one database query reads."""

LastEventId = Annotated[
    Annotated[int, Field(ge=0, le=2**31 - 1)] | None,
    Digits,
    Header(alias="Last-Event-ID", description="Id of the last event received. The stream starts after it."),
]

EVENT_STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}
}

EventSerializer = Callable[[Event], BaseModel]


@dataclass(frozen=True)
class JobEventStream:
    """Stream of a job's events that satisfy ``conditions``, converted by ``serialize``."""

    db: Database
    change_feed: JobChangeFeed
    job_id: str
    conditions: Sequence[ColumnElement[bool]]
    serialize: EventSerializer

    def to_response(self, after: int) -> StreamingResponse:
        # Proxies such as nginx would otherwise buffer the events.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(self._iter_events(after), media_type="text/event-stream", headers=headers)

    async def _iter_events(self, seq: int) -> AsyncIterator[str]:
        with self.change_feed.subscribe(self.job_id) as changed:
            # Sends the headers immediately.
            yield ": here\n\n"
            while True:
                changed.clear()
                try:
                    state, events = await self._fetch_after(seq)
                except StorageUnavailable as error:
                    log.warning("an event stream of %s ended early: %s", self.job_id, error)
                    return
                for event in events:
                    yield f"id: {event.seq}\ndata: {self.serialize(event).model_dump_json()}\n\n"
                    seq = event.seq
                if len(events) == MAX_EVENTS_PER_QUERY:
                    continue
                if state in TERMINAL:
                    yield f'event: done\ndata: {{"status": "{WIRE_STATUS[state]}"}}\n\n'
                    return
                while not await _wait_until_set(changed, PING_SECONDS):
                    yield ": ping\n\n"

    async def _fetch_after(self, seq: int) -> tuple[str, Sequence[Event]]:
        query = select(Event).where(col(Event.job_id) == self.job_id, col(Event.seq) > seq, *self.conditions)
        async with self.db.read() as session:
            # The state first: if the job has ended, all its events are stored by now.
            state = (await session.execute(select(col(Job.state)).where(col(Job.id) == self.job_id))).scalar_one()
            events = (await session.execute(query.order_by(col(Event.seq)).limit(MAX_EVENTS_PER_QUERY))).scalars().all()
        return state, events


async def _wait_until_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
