"""What routes ask for by annotation."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from api.http.idempotency import ResponseRecorder, get_response_recorder
from api.services.batched_queries import BatchedQueries
from api.services.usage_meter import UsageMeter
from jobs.lifecycle.change_feed import JobChangeFeed
from jobs.lifecycle.queue_position import QueueEstimator
from jobs.resources import Resources
from storage.access.keys import Principal

# All are async, though they wait for nothing: FastAPI would run others in a thread, which takes longer than they do.


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def get_principal(request: Request) -> Principal:
    """Whose key the request carries; the middleware let no other request in."""
    principal: Principal = request.state.principal
    return principal


async def get_usage_meter(request: Request) -> UsageMeter:
    usage_meter: UsageMeter = request.app.state.usage_meter
    return usage_meter


async def get_batched_queries(request: Request) -> BatchedQueries:
    queries: BatchedQueries = request.app.state.batched_queries
    return queries


async def get_queue_estimator(request: Request) -> QueueEstimator:
    estimator: QueueEstimator = request.app.state.queue_estimator
    return estimator


async def get_change_feed(request: Request) -> JobChangeFeed:
    change_feed: JobChangeFeed = request.app.state.change_feed
    return change_feed


async def get_assembly_slots(request: Request) -> asyncio.Semaphore:
    """Return the slots that bound how many uploads one process assembles at a time."""
    slots: asyncio.Semaphore = request.app.state.assembly_slots
    return slots


async def authenticate(scope: Scope, key: str) -> Principal | None:
    queries: BatchedQueries = scope["app"].state.batched_queries
    return await queries.get_principal(key)


ResourcesDep = Annotated[Resources, Depends(get_resources)]
PrincipalDep = Annotated[Principal, Depends(get_principal)]
UsageMeterDep = Annotated[UsageMeter, Depends(get_usage_meter)]
QueueEstimatorDep = Annotated[QueueEstimator, Depends(get_queue_estimator)]
ChangeFeedDep = Annotated[JobChangeFeed, Depends(get_change_feed)]
AssemblySlotsDep = Annotated[asyncio.Semaphore, Depends(get_assembly_slots)]
IdempotencyDep = Annotated[ResponseRecorder, Depends(get_response_recorder)]
"""For routes that create something: call :meth:`ResponseRecorder.record` in the same transaction."""
