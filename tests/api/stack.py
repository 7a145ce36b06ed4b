"""A real API on a real port over SQLite and file blobs, with two projects. Tests insert rows
directly."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx
import uvicorn
from openai import OpenAI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from api.app import create_app
from storage import blobs as blob_stores
from storage import db as databases
from storage import migrate
from storage.access.keys import create_key, create_project
from storage.blobs import Blobs
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Checkpoint, Event, File, Job, Model
from tests.api.fake_engine import FakeEngine

T = TypeVar("T")

MODELS_TOML = """
[starter]
path = "base"
tasks = ["chat", "completion"]
parameters = 1000000
context = 512
license = "Apache-2.0"
aliases = ["gpt-4o-mini-2024-07-18"]

[encoder]
path = "base"
tasks = ["text-classification", "embedding"]
parameters = 22000000
context = 512
license = "Apache-2.0"

["big-encoder"]
path = "base"
tasks = ["text-classification", "chat"]
parameters = 900000000
context = 512
license = "Apache-2.0"

[quantized]
path = "quantized"
tasks = ["chat"]
parameters = 1000000
context = 512
license = "Apache-2.0"

[absent]
hub = "org/absent"
tasks = ["chat"]
parameters = 1000000
context = 512
license = "Apache-2.0"
"""

FAKE_SHA256 = "0" * 64
_SSL_CONTEXT = ssl.create_default_context()


@dataclass(frozen=True)
class Tenant:
    project_id: str
    key: str


@dataclass(frozen=True)
class Stack:
    settings: Settings
    url: str
    engine: FakeEngine
    blobs: Blobs
    tenant: Tenant
    other_tenant: Tenant
    clients: dict[tuple[str, int], OpenAI] = field(default_factory=dict)

    def as_other_tenant(self) -> Stack:
        return replace(self, tenant=self.other_tenant, other_tenant=self.tenant)

    def with_new_project(self) -> Stack:
        """Return the same server for a new, empty project."""
        return replace(self, tenant=self.run_in_session(create_tenant))

    def get_client(self, max_retries: int = 0) -> OpenAI:
        """Return the official client, which rejects responses without OpenAI's shapes. The stack
        closes it."""
        key = (self.tenant.key, max_retries)
        if key not in self.clients:
            self.clients[key] = OpenAI(
                base_url=f"{self.url}/v1",
                api_key=self.tenant.key,
                max_retries=max_retries,
                _strict_response_validation=True,
            )
        return self.clients[key]

    def open_http(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.tenant.key}"},
            timeout=20,
            # Creating a context takes longer than a request.
            verify=_SSL_CONTEXT,
        )

    def open_anonymous_http(self) -> httpx.Client:
        """Return an HTTP client without an API key."""
        return httpx.Client(base_url=self.url, timeout=20, verify=_SSL_CONTEXT)

    def run_in_session(self, callback: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run the callback in one transaction on the same database, outside the API."""

        async def run() -> T:
            db = databases.connect(self.settings.database_url)
            try:
                async with db.write() as session:
                    return await callback(session)
            finally:
                await db.close()

        return asyncio.run(run())

    def insert(self, *rows: SQLModel) -> None:
        async def add(session: AsyncSession) -> None:
            for row in rows:
                session.add(row)
                await session.flush()

        self.run_in_session(add)

    def insert_file(self, purpose: str = "fine-tune", **values: Any) -> File:
        """Insert a file's row without bytes."""
        key = f"projects/{self.tenant.project_id}/files/nothing"
        row = File(
            id=new_id("file"),
            project_id=self.tenant.project_id,
            created_at=time.time(),
            filename="rows.jsonl",
            purpose=purpose,
            bytes=2,
            sha256=FAKE_SHA256,
            blob_key=key,
            **values,
        )
        self.insert(row)
        return row

    def insert_job(self, **values: Any) -> Job:
        """Insert a job's row: queued, on the starter model, unless ``values`` say otherwise."""
        row = build_job(self.tenant.project_id, **values)
        self.insert(row)
        return row

    def insert_model(self, **values: Any) -> Model:
        """Insert a finished job and its model."""
        job = build_job(self.tenant.project_id, state="succeeded", **values)
        name = f"ft:{job.base_model}:luthier:{job.suffix or ''}:{job.id[-8:]}"
        job.fine_tuned_model, job.finished_at = name, time.time()
        model = Model(
            id=name,
            project_id=job.project_id,
            job_id=job.id,
            created_at=time.time(),
            base_model=job.base_model,
            task=job.task,
            update="lora",
            prefix=f"projects/{job.project_id}/jobs/{job.id}/a1/result",
            manifest_sha256=FAKE_SHA256,
        )
        self.insert(job, model)
        return model

    def insert_checkpoint(self, job: Job, step: int, published: bool = True) -> Checkpoint:
        row = Checkpoint(
            id=new_id("checkpoint"),
            job_id=job.id,
            project_id=job.project_id,
            step=step,
            attempt=1,
            created_at=time.time(),
            prefix=f"projects/{job.project_id}/jobs/{job.id}/a1/step-{step}",
            manifest_sha256=FAKE_SHA256,
            published=published,
            metrics={"step": step, "train_loss": 1.5, "train_mean_token_accuracy": 0.5, "grad_norm": 2.0},
        )
        self.insert(row)
        return row

    def insert_event(self, job: Job, seq: int, **values: Any) -> Event:
        row = Event(
            id=new_id("event"),
            job_id=job.id,
            seq=seq,
            attempt=1,
            created_at=1_700_000_000.5,
            level="info",
            message=f"event {seq}",
            **values,
        )
        self.insert(row)
        return row


def build_job(project_id: str, **values: Any) -> Job:
    defaults: dict[str, Any] = {
        "id": new_id("job"),
        "project_id": project_id,
        "created_at": time.time(),
        "base_model": "starter",
        "task": "chat",
        "update": {"type": "lora", "rank": 16},
        "method": {"type": "supervised"},
        "hyperparameters": {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0, "learning_rate": 2e-4},
        "columns": {},
        "training_file": "file-gone",
        "seed": 1,
        "state": "queued",
    }
    return Job(**{**defaults, **values})


@contextmanager
def run_server(app: Any, **options: Any) -> Iterator[uvicorn.Server]:
    """Run the application in a real server in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, **options))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)


def get_port(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def build_settings(home: Path, **values: Any) -> Settings:
    """Create a home with its own list of base models and return its settings."""
    for name in ("base", "quantized"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "quantized" / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}')
    (home / "models.toml").write_text(MODELS_TOML)
    # No worker holds the jobs that tests insert, so the reaper must leave them alone.
    defaults: dict[str, Any] = {"reaper_interval_seconds": 3600}
    defaults |= {"redis_url": f"unix://{home}/no-redis.sock", "inference_url": f"unix://{home}/engine.sock"}
    return Settings(home=home, models_file=home / "none.toml", **{**defaults, **values})


async def create_tenant(session: AsyncSession) -> Tenant:
    project = await create_project(session, "test")
    key, _ = await create_key(session, project.id, "test")
    return Tenant(project.id, key)


async def prepare_database(settings: Settings) -> list[Tenant]:
    await migrate.upgrade(settings.database_url)
    db = databases.connect(settings.database_url)
    async with db.write() as session:
        tenants = [await create_tenant(session) for _ in range(2)]
    await db.close()
    return tenants


@contextmanager
def run_stack(home: Path, **values: Any) -> Iterator[Stack]:
    settings = build_settings(home, **values)
    tenant, other_tenant = asyncio.run(prepare_database(settings))
    blobs = blob_stores.connect(settings.blob_url)
    engine = FakeEngine(blobs)
    with (
        run_server(engine.app, uds=settings.inference_url.removeprefix("unix://"), lifespan="off"),
        run_server(create_app(settings), host="127.0.0.1", port=0) as server,
    ):
        stack = Stack(settings, f"http://127.0.0.1:{get_port(server)}", engine, blobs, tenant, other_tenant)
        yield stack
        for client in stack.clients.values():
            client.close()
