"""``luthierd doctor``: checks of all services that a stack needs."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from redis.exceptions import RedisError
from rich.console import Console

from inference import client as engines
from inference.protocol.errors import EngineError
from jobs import wakeup
from storage import blobs as blob_stores
from storage import db as databases
from storage.errors import StorageError
from storage.settings import Settings


async def run_checks(settings: Settings, console: Console) -> int:
    """Run all checks and print one line for each. Return the exit status: 0 if all pass, else 1."""
    console.print(f"python {platform.python_version()}, torch {version('torch')}, {os.cpu_count()} CPUs")
    free = shutil.disk_usage(_find_existing_directory(settings)).free
    console.print(f"device: {await _detect_device()}; free disk: {free / 2**30:.0f} GiB")
    checks: dict[str, tuple[str, Callable[[Settings], Awaitable[str]]]] = {
        "database": (settings.database_url, _check_database),
        "blobs": (settings.blob_url, _check_blobs),
        "redis": (settings.redis_url, _check_redis),
        "engine": (settings.inference_url, _check_engine),
        "base models": (str(settings.models_file), _check_models),
    }
    num_failed = 0
    for name, (address, check) in checks.items():
        try:
            console.print(f"[green]✓[/] {name}: {await check(settings)}")
        except (StorageError, EngineError, RedisError, OSError, TimeoutError) as error:
            num_failed += 1
            console.print(f"[red]✗[/] {name} at {_redact_password(address)}: {error}")
    return 1 if num_failed else 0


async def _detect_device() -> str:
    """Return the device that training would use.

    Runs in a subprocess: importing torch takes seconds.
    """
    code = "from training.trainer.device import select_device; print(select_device().torch_device)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


def _find_existing_directory(settings: Settings) -> str:
    return str(settings.home if settings.home.exists() else settings.home.parent)


def _redact_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else tail


async def _check_database(settings: Settings) -> str:
    db = databases.connect(settings.database_url)
    try:
        await db.ping()
    finally:
        await db.close()
    return "responds"


async def _check_blobs(settings: Settings) -> str:
    def round_trip() -> None:
        store = blob_stores.connect(settings.blob_url)
        stored = store.put_bytes("doctor/probe", b"luthier")
        blob_stores.read(store, "doctor/probe", stored.sha256)
        store.delete("doctor/probe")

    await asyncio.to_thread(round_trip)
    return "can be written and read"


async def _check_redis(settings: Settings) -> str:
    channel = wakeup.connect(settings.redis_url)
    try:
        await channel.ping()
    finally:
        await channel.close()
    return "responds"


async def _check_engine(settings: Settings) -> str:
    engine = engines.connect(settings.inference_url, settings.inference_token.get_secret_value())
    try:
        await engine.ping()
    finally:
        await engine.close()
    return "responds"


async def _check_models(settings: Settings) -> str:
    entries = settings.create_registry().list()
    return f"{sum(1 for entry in entries if entry.location)} of {len(entries)} are installed"
