"""Shared resources of the API and the workers, opened once per process and passed down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from inference import client as engine_client
from inference.client import EngineClient
from jobs import wakeup
from jobs.wakeup import WakeupChannel
from storage import blobs as blob_stores
from storage import db as databases
from storage.blobs import Blobs
from storage.db import Database
from storage.redis_scripts import RedisScripts
from storage.registry import Registry
from storage.settings import Settings
from storage.threads import ThreadPool

BLOB_THREADS = 16
"""Transfers at the same time of one process."""


@dataclass(frozen=True)
class Resources:
    settings: Settings
    db: Database
    blobs: Blobs
    wakeup: WakeupChannel
    redis_scripts: RedisScripts
    engine: EngineClient
    registry: Registry
    blob_threads: ThreadPool
    """Threads of calls that wait for the blob store."""
    probe_thread: ThreadPool
    """Thread of the blob store's health check. Further checks wait for one that hangs."""


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open database, blob store, Redis and engine. None of them needs to be reachable yet."""
    channel = wakeup.connect(settings.redis_url)
    resources = Resources(
        settings=settings,
        db=databases.connect(settings.database_url),
        blobs=blob_stores.connect(settings.blob_url),
        wakeup=channel,
        redis_scripts=RedisScripts(channel.get_pool),
        engine=engine_client.connect(settings.inference_url, settings.inference_token.get_secret_value()),
        registry=settings.create_registry(),
        blob_threads=ThreadPool("blobs", BLOB_THREADS),
        probe_thread=ThreadPool("probe", 1),
    )
    try:
        yield resources
    finally:
        await resources.engine.close()
        await resources.wakeup.close()
        await resources.db.close()
        resources.blob_threads.close()
        resources.probe_thread.close()
