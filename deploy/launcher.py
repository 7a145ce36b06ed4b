"""``luthierd up``: start the complete stack on one machine and report when it is ready."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.status import Status

from deploy import redis_server
from deploy.supervisor import Service, supervise
from storage import db as databases
from storage import migrate
from storage.access import keys
from storage.settings import Settings, build_child_environment

SERVICE_MODULES = {"inference": "inference.server", "worker": "jobs.worker", "api": "api.main"}
"""Service -> module that runs as its process."""

MAX_SOCKET_PATH_LENGTH = 100
READY_TIMEOUT_SECONDS = 180.0


class LaunchError(RuntimeError):
    """The stack cannot start. The message says what to change."""


async def up(settings: Settings, console: Console) -> None:
    """Start all services, report readiness, and keep them running until SIGINT or SIGTERM."""
    settings = settings.model_copy(update={"port": settings.port or _find_free_port(settings.host)})
    _check_addresses(settings)
    for folder in (settings.home, settings.home / "run", settings.home / "logs"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stop_event = asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, stop_event.set)
    started = time.monotonic()
    with _lock_home(settings.home), console.status("starting Luthier …") as status:
        await migrate.upgrade(settings.database_url)
        new_key = await ensure_credentials(settings)

        async def announce() -> None:
            await _wait_until_ready(settings, status)
            status.stop()
            _print_ready(settings, console, new_key, time.monotonic() - started)

        await supervise(build_services(settings), stop_event, announce)
    console.print("✓ Luthier has stopped")


def build_services(settings: Settings) -> list[Service]:
    """Build the services of the embedded stack, in start order."""
    environment = build_child_environment(settings)
    commands = {name: [sys.executable, "-m", module] for name, module in SERVICE_MODULES.items()}
    redis = urlsplit(settings.redis_url)
    if redis.scheme == "unix":
        commands = {"redis": redis_server.build_command(Path(redis.path), settings.home / "run"), **commands}
    logs = settings.home / "logs"
    return [Service(name, command, environment, logs / f"{name}.log") for name, command in commands.items()]


async def ensure_credentials(settings: Settings) -> str | None:
    """Ensure that the credentials file contains a key in force and this stack's URL.

    Return the key if it was created now, or None.
    """
    file, db = settings.credentials_file, databases.connect(settings.database_url)
    try:
        api_key = json.loads(file.read_text()).get("api_key", "") if file.exists() else ""
        async with db.write() as session:
            new_key = None
            if await keys.authenticate(session, api_key) is None:
                project = await keys.create_project(session, "default")
                new_key, _ = await keys.create_key(session, project.id, "created at first start")
        content = {"base_url": build_base_url(settings), "api_key": new_key or api_key}
        _write_private_file(file, json.dumps(content, indent=2) + "\n")
    finally:
        await db.close()
    return new_key


def build_base_url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}/v1"


def _write_private_file(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    partial.replace(file)


def _check_addresses(settings: Settings) -> None:
    for url in (settings.redis_url, settings.inference_url):
        parsed = urlsplit(url)
        if parsed.scheme == "unix" and len(parsed.path) > MAX_SOCKET_PATH_LENGTH:
            raise LaunchError(
                f"The path {parsed.path} is too long for a Unix socket; set LUTHIER_HOME to a shorter directory."
            )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            message = (
                f"Port {settings.port} on {settings.host} is not available ({error.strerror}); "
                "choose another one with --port."
            )
            raise LaunchError(message) from error


def _find_free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _lock_home(home: Path) -> Iterator[None]:
    """Lock the home directory: two stacks in one directory would replace each other's sockets."""
    with (home / "run" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"A stack is already running in {home}; stop it, or use another --home.") from None
        yield


async def _wait_until_ready(settings: Settings, status: Status) -> None:
    url = f"http://{settings.host}:{settings.port}/readyz"
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    async with httpx.AsyncClient(timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                response = await client.get(url)
            except httpx.TransportError:
                missing = "api"
            else:
                if response.status_code == 200:
                    return
                missing = ", ".join(name for name, state in response.json().items() if state != "ok")
            status.update(f"starting Luthier … waiting for: {missing}")
            await asyncio.sleep(0.2)
    raise LaunchError(
        f"The stack is not ready after {READY_TIMEOUT_SECONDS:.0f} s; see the logs in {settings.home / 'logs'}."
    )


def _print_ready(settings: Settings, console: Console, new_key: str | None, seconds: float) -> None:
    url, file = build_base_url(settings), settings.credentials_file
    console.print(f"[green]✓[/] Luthier is ready at [bold]{url}[/] after {seconds:.1f} s; the key is in {file}")
    if new_key:
        console.print(f"  your key, shown only now: [bold]{new_key}[/]", soft_wrap=True)
    key = f"""$(sed -n 's/.*"api_key": "\\(.*\\)".*/\\1/p' {file})"""
    console.print(f"""  try: curl -s {url}/models -H "Authorization: Bearer {key}\"""", soft_wrap=True, markup=False)
