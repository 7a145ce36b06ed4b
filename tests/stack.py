"""Stack of real processes for tests: any combination of the four URLs. A test may kill any
process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from openai import OpenAI

from storage import blobs as blob_stores
from storage import db as databases
from storage import migrate
from storage.access import keys
from storage.folders import get_manifest
from storage.settings import Settings, build_child_environment
from storage.tables import Job, Model
from tests.services import wait_for

TERMINAL_STATUSES = {"succeeded", "failed", "cancelled"}


@dataclass
class Stack:
    """Processes started by name: ``api``, ``worker``, ``inference``; ``worker2`` is a second
    worker."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    key: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """Migrate the database and create an API key."""
        asyncio.run(migrate.upgrade(self.settings.database_url))
        self.key = asyncio.run(self.create_key("default"))

    async def create_key(self, name: str) -> str:
        db = databases.connect(self.settings.database_url)
        async with db.write() as session:
            project = await keys.create_project(session, name)
            key, _ = await keys.create_key(session, project.id, "test")
        await db.close()
        return key

    def start(self, *names: str) -> None:
        for name in names:
            part = name.rstrip("0123456789")
            extra = {}
            if part == "api":
                self.ports[name] = find_free_port()
                extra = {"LUTHIER_PORT": str(self.ports[name])}
            logs = self.settings.home / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            with (logs / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", "deploy.luthierd", part],
                    env=build_child_environment(self.settings, **extra),
                    stdout=log,
                    stderr=log,
                )

    def wait_until_ready(self, api: str = "api", seconds: float = 240.0) -> OpenAI:
        """Wait until this API and its dependencies are ready, then return a client for it."""
        root = f"http://127.0.0.1:{self.ports[api]}"

        def answers() -> bool:
            self.check_alive()
            try:
                return httpx.get(f"{root}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, seconds, 0.1)
        return OpenAI(base_url=f"{root}/v1", api_key=self.key, max_retries=5)

    def check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.read_log(name)}")

    def read_log(self, name: str) -> str:
        file = self.settings.home / "logs" / f"{name}.log"
        return file.read_text()[-5000:] if file.exists() else ""

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(sig)
        process.wait(60)

    def list_training_processes(self, name: str) -> list[psutil.Process]:
        """Return the training processes of a worker: the children of its fork servers."""
        try:
            parents = psutil.Process(self.processes[name].pid).children()
            return [child for parent in parents for child in parent.children()]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def get_job(self, job_id: str) -> Job:
        async def read() -> Job:
            db = databases.connect(self.settings.database_url)
            async with db.read() as session:
                row = await session.get_one(Job, job_id)
            await db.close()
            return row

        return asyncio.run(read())

    def get_result_hashes(self, model_id: str) -> dict[str, str]:
        """Return the sha256 of every file of a finished model."""

        async def read() -> Model:
            db = databases.connect(self.settings.database_url)
            async with db.read() as session:
                row = await session.get_one(Model, model_id)
            await db.close()
            return row

        model = asyncio.run(read())
        blobs = blob_stores.connect(self.settings.blob_url)
        manifest = get_manifest(blobs, model.prefix, model.manifest_sha256)
        return {name: stored.sha256 for name, stored in manifest.files.items()}


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build_settings(home: Path, **values: Any) -> Settings:
    """Return settings with short leases and intervals; the rest are the defaults."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    quick = {"lease_seconds": 4.0, "reaper_interval_seconds": 0.5, "poll_seconds": 0.5, "save_seconds": 0.3}
    return Settings(
        home=home, **{**quick, "progress_flush_seconds": 0.05, "train_threads": 1, "engine_threads": 1, **values}
    )


def wait_for_job(client: OpenAI, job_id: str, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in TERMINAL_STATUSES:
            return job
        if time.monotonic() > deadline:
            events = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=20)]
            raise TimeoutError(f"{job_id} is still {job.status} after {seconds} s: {events}")
        time.sleep(0.05)


def wait_for_step(client: OpenAI, job_id: str, step: int, seconds: float = 60.0) -> None:
    """Wait until the job has completed ``step`` steps or has ended."""

    def reached() -> bool:
        job = client.fine_tuning.jobs.retrieve(job_id)
        progress: dict[str, Any] = (job.model_extra or {}).get("progress") or {}
        return (progress.get("step") or 0) >= step or job.status in TERMINAL_STATUSES

    wait_for(reached, seconds)


def build_chat_rows(count: int, start: int = 0) -> bytes:
    rows = [
        {"messages": [{"role": "user", "content": f"say {n % 7}"}, {"role": "assistant", "content": f"it is {n % 7}"}]}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
