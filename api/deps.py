"""FastAPI dependencies shared by all routes."""

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

# All are async, although they await nothing: FastAPI would run plain functions in a slower thread.


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def get_principal(request: Request) -> Principal:
    """Return the principal of the request's key. The middleware rejects requests without one."""
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
    """Return the slots that limit how many uploads one process assembles concurrently."""
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
"""For routes that create something: call ``record`` in the transaction that creates it."""
