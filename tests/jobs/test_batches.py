"""Batch runs: rejected files, responses, limits, and workers that are killed or stopped.

The engine is a fake with the real protocol. Database, blobs and workers are real.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import Response

from jobs.batches import input_file, parts, store
from jobs.batches.worker import BatchRun, run_batch_worker
from jobs.blob_keys import batch_prefix
from jobs.lifecycle.transitions import LeaseLost
from jobs.resources import Resources, open_resources
from storage.access import keys
from storage.access.limits import sum_stored_bytes
from storage.blobs import read
from storage.ids import new_id
from storage.settings import build_child_environment
from storage.tables import Batch, BatchPart, Delivery, File, Project, Usage
from tests.api.fake_engine import FakeEngine
from tests.api.stack import build_settings, run_server
from tests.jobs.test_webhooks import insert_webhook

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

URL = "/v1/chat/completions"


class SlowEngine(FakeEngine):
    """Engine with a delay. ``active`` and ``max_active`` count concurrent chats."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.active = self.max_active = 0
        self.delay_seconds = 0.0

    async def chat(self, request: Request) -> Response:
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        try:
            await asyncio.sleep(self.delay_seconds)
            return await super().chat(request)
        finally:
            self.active -= 1

    def count_messages(self) -> Counter[str]:
        """Count the requests by message."""
        return Counter(request["body"]["messages"][-1]["content"] for request in self.requests)


@dataclass
class BatchHarness:
    resources: Resources
    engine: SlowEngine
    project_id: str
    home: Path

    async def insert_file(self, data: bytes) -> File:
        file_id = new_id("file")
        key = f"projects/{self.project_id}/files/{file_id}"
        stored = self.resources.blobs.put_bytes(key, data)
        row = File(
            id=file_id,
            project_id=self.project_id,
            created_at=time.time(),
            filename="in.jsonl",
            purpose="batch",
            bytes=stored.size,
            sha256=stored.sha256,
            blob_key=key,
        )
        async with self.resources.db.write() as session:
            session.add(row)
        return row

    async def insert_batch(self, data: bytes | list[dict[str, Any]], **values: Any) -> Batch:
        if isinstance(data, list):
            data = b"".join(json.dumps(line).encode() + b"\n" for line in data)
        now = time.time()
        defaults = {
            "id": new_id("batch"),
            "project_id": self.project_id,
            "created_at": now,
            "endpoint": URL,
            "input_file_id": (await self.insert_file(data)).id,
            "completion_window": "24h",
            "expires_at": now + 86400,
        }
        row = Batch(**{**defaults, **values})
        async with self.resources.db.write() as session:
            session.add(row)
        return row

    async def get_batch(self, batch: Batch) -> Batch:
        async with self.resources.db.read() as session:
            return await session.get_one(Batch, batch.id)

    async def update_batch(self, batch: Batch, **values: Any) -> None:
        async with self.resources.db.write() as session:
            await session.execute(update(Batch).where(col(Batch.id) == batch.id).values(**values))

    async def claim(self, lease: float = 30.0) -> BatchRun | None:
        async with self.resources.db.write() as session:
            claimed = await store.claim(session, "w", lease)
        return BatchRun(self.resources, *claimed, folder=self.home / "scratch") if claimed else None

    async def run_next(self) -> None:
        """Claim the next batch and run it until the claim ends."""
        batch_run = await self.claim()
        assert batch_run is not None
        await batch_run.work()

    async def read_output(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        async with self.resources.db.read() as session:
            file = await session.get_one(File, file_id)
        assert (file.purpose, file.project_id) == ("batch_output", self.project_id)
        return [json.loads(line) for line in read(self.resources.blobs, file.blob_key, file.sha256).splitlines()]


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[BatchHarness]:
    # pytest's tmp_path is too long: a unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        home = Path(folder)
        settings = build_settings(home, database_url=database_url, poll_seconds=0.05)
        async with open_resources(settings) as resources:
            engine = SlowEngine(resources.blobs)
            async with resources.db.write() as session:
                project_id = (await keys.create_project(session, "test")).id
            with run_server(engine.app, uds=settings.inference_url.removeprefix("unix://"), lifespan="off"):
                yield BatchHarness(resources, engine, project_id, home)


@pytest.fixture
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_LINES", 4)
        yield


def build_line(custom_id: str, content: str = "hello", **body: Any) -> dict[str, Any]:
    full_body = {"model": "starter", "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": full_body}


async def test_from_file_to_file(harness: BatchHarness) -> None:
    await insert_webhook(harness.resources.db, harness.project_id)
    batch = await harness.insert_batch(
        [build_line(f"r{n}", f"word {n}") for n in range(40)], key_id="key_x", output_expires_after=3600
    )
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.total, done.completed, done.failed, done.processed) == ("completed", 40, 40, 0, 40)
    assert (done.model, done.input_tokens, done.output_tokens) == ("starter", 120, 80)
    assert (done.owner, done.lease_until, done.error_file_id, done.errors) == (None, None, None, None)
    times = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert times == sorted(times, key=lambda timestamp: timestamp or 0)
    assert all(times)
    output = await harness.read_output(done.output_file_id)
    assert [line["custom_id"] for line in output] == [f"r{n}" for n in range(40)]
    first = output[0]
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert (first["id"][:10], first["error"]) == ("batch_req_", None)
    assert (first["response"]["status_code"], first["response"]["request_id"][:4]) == (200, "req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "You said word 0."
    async with harness.resources.db.read() as session:
        file = await session.get_one(File, str(done.output_file_id))
        [delivery] = (await session.execute(select(Delivery))).scalars()
    assert file.expires_at == pytest.approx(file.created_at + 3600)
    assert (delivery.type, json.loads(delivery.body)["data"]) == ("batch.completed", {"id": batch.id})
    await parts.clean_up(harness.resources)
    assert list(harness.resources.blobs.list(batch_prefix(batch))) == []
    async with harness.resources.db.read() as session:
        [usage] = (await session.execute(select(Usage))).scalars()
    assert (usage.key_id, usage.kind, usage.model) == ("key_x", "chat", "starter")
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (40, 120, 80)
    async with harness.resources.db.read() as session:
        assert (await session.execute(select(BatchPart))).first() is None
    async with harness.resources.db.autocommit() as connection:
        assert await store.find_batches_to_clean_up(connection) == []


async def test_several_lines_are_sent_to_the_engine_concurrently(harness: BatchHarness) -> None:
    harness.engine.delay_seconds = 0.05
    await harness.insert_batch([build_line(f"r{n}") for n in range(40)])
    await harness.run_next()
    assert 8 <= harness.engine.max_active <= harness.resources.settings.engine_batch == 16


async def test_half_of_the_lines_are_invalid(harness: BatchHarness) -> None:
    invalid = [
        build_line("no-messages", messages=[]),
        build_line("unknown", color="red"),
        build_line("too hot", temperature=9),
        build_line("streamed", stream=True),
        build_line("legacy", function_call={"name": "f"}),
        build_line("long", "too long"),
        build_line("engine fails", "broken"),
    ]
    valid = [build_line(f"good {n}", f"word {n}") for n in range(len(invalid))]
    mixed = [line for pair in zip(invalid, valid, strict=True) for line in pair]
    batch = await harness.insert_batch(mixed)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.total, done.completed, done.failed) == ("completed", 14, 7, 7)
    output, errors = await harness.read_output(done.output_file_id), await harness.read_output(done.error_file_id)
    assert [line["custom_id"] for line in output] == [line["custom_id"] for line in valid]
    assert [line["custom_id"] for line in errors] == [line["custom_id"] for line in invalid]
    responses = [(line["response"]["status_code"], line["response"]["body"]["error"]) for line in errors]
    assert [(status, error["param"], error["code"]) for status, error in responses] == [
        (400, "messages", "invalid_value"),
        (400, "color", "unknown_parameter"),
        (400, "temperature", "invalid_value"),
        (400, "stream", "unsupported_parameter"),
        (400, "function_call", "unsupported_parameter"),
        (400, "messages", "context_length_exceeded"),
        (500, None, "internal_error"),
    ]
    assert all(set(error) == {"message", "type", "param", "code"} for _, error in responses)


async def test_every_endpoint(harness: BatchHarness) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"model": "starter", "prompt": "Once"},
        "/v1/embeddings": {"model": "encoder", "input": ["a", "b"]},
        "/v1/predictions": {"model": "encoder", "inputs": ["a", {"text": "b"}]},
    }
    for url, body in bodies.items():
        line = {"custom_id": "1", "method": "POST", "url": url, "body": body}
        batch = await harness.insert_batch([line], endpoint=url)
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert (done.status, done.completed, done.errors) == ("completed", 1, None)
        [output] = await harness.read_output(done.output_file_id)
        assert output["response"]["body"]["usage"]["prompt_tokens"] > 0


REJECTED_FILES: dict[str, tuple[bytes | list[dict[str, Any]], list[tuple[str, str | None, int | None]]]] = {
    "empty": (b"", [("empty_file", None, None)]),
    "blank": (b"\n  \n", [("empty_file", None, None)]),
    "no json": (b'{"custom_id": \n', [("invalid_json_line", None, 1)]),
    "nan": (b'\n{"custom_id": NaN}\n', [("invalid_json_line", None, 2)]),
    "utf-16": (json.dumps(build_line("a")).encode("utf-16"), [("invalid_json_line", None, 1)]),
    "list": (b"[1]\n", [("invalid_request", None, 1)]),
    "no custom_id": ([{**build_line("a"), "custom_id": ""}], [("invalid_request", "custom_id", 1)]),
    "same custom_id": ([build_line("a"), build_line("b"), build_line("a")], [("duplicate_custom_id", "custom_id", 3)]),
    "method": ([build_line("a"), {**build_line("b"), "method": "GET"}], [("invalid_request", "method", 2)]),
    "url": ([{**build_line("a"), "url": "/v1/embeddings"}], [("invalid_url", "url", 1)]),
    "no body": ([{"custom_id": "a", "method": "POST", "url": URL}], [("missing_required_parameter", "body", 1)]),
    "unknown field": ([{**build_line("a"), "color": 1}], [("unknown_parameter", "color", 1)]),
    "no model": ([build_line("a", model=None)], [("missing_required_parameter", "body.model", 1)]),
    "unknown model": ([build_line("a"), build_line("b", model="gpt-9")], [("model_not_found", "body.model", 2)]),
    "unsuitable model": ([build_line("a", model="encoder")], [("unsuitable_model", "body.model", 1)]),
    "absent model": ([build_line("a", model="absent")], [("base_model_unavailable", "body.model", 1)]),
    "two errors": (
        [{**build_line("a"), "url": "x"}, build_line("a", model="")],
        [
            ("invalid_url", "url", 1),
            ("duplicate_custom_id", "custom_id", 2),
            ("missing_required_parameter", "body.model", 2),
        ],
    ),
    "models": ([build_line(str(n), model=f"m{n}") for n in range(101)], [("too_many_models", "body.model", 101)]),
}


async def test_rejected_files(harness: BatchHarness) -> None:
    for name, (data, expected) in REJECTED_FILES.items():
        batch = await harness.insert_batch(data)
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert (done.status, done.output_file_id, done.error_file_id) == ("failed", None, None), name
        assert done.failed_at is not None
        assert done.errors is not None
        errors = [(error["code"], error["param"], error["line"]) for error in done.errors]
        assert errors == expected if name != "models" else len(errors) == input_file.MAX_ERRORS, name
        assert all(error["message"] for error in done.errors)
    assert harness.engine.requests == []


def test_long_lines_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "in"
    text = json.dumps(build_line("a")).encode()
    path.write_bytes(b"\xef\xbb\xbf" + text + b"\n" + b"x" * 10_000 + b"\n\n" + json.dumps(build_line("c")).encode())
    lines = [
        (number, line.code if isinstance(line, input_file.BatchError) else line.custom_id)
        for number, line in input_file.read_requests(path, 1000)
    ]
    assert lines == [(1, "a"), (2, "line_too_long"), (4, "c")]


def test_too_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINES", 3)
    path = tmp_path / "in"
    path.write_bytes(b"".join(json.dumps(build_line(str(n))).encode() + b"\n" for n in range(9)))
    assert [(error.code, error.line) for error in input_file.validate_input_file(path, URL, 1000).errors] == [
        ("too_many_lines", 4)
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_damaged_or_missing_input(harness: BatchHarness) -> None:
    damaged = await harness.insert_batch([build_line("a")])
    async with harness.resources.db.write() as session:
        await session.execute(update(File).values(sha256="0" * 64))
    missing = await harness.insert_batch([build_line("a")], input_file_id="file-missing")
    for batch in (damaged, missing):
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert done.errors is not None
        assert (done.status, done.errors[0]["code"]) == ("failed", "file_unreadable")


async def test_cancelled_in_the_middle(harness: BatchHarness, small_parts: None) -> None:
    await insert_webhook(harness.resources.db, harness.project_id)
    harness.engine.delay_seconds = 0.05
    batch = await harness.insert_batch([build_line(f"r{n}", "hang" if n == 20 else f"word {n}") for n in range(60)])
    run_task = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 12:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    async with harness.resources.db.write() as session:
        cancelling = await store.cancel(session, harness.project_id, batch.id)
    assert cancelling is not None
    assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)
    await asyncio.wait_for(run_task, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.processed, done.completed) == ("cancelled", 20, 20)
    assert done.cancelled_at is not None
    output = await harness.read_output(done.output_file_id)
    assert [line["custom_id"] for line in output] == [f"r{n}" for n in range(20)]
    async with harness.resources.db.write() as session:
        assert await store.cancel(session, harness.project_id, batch.id) is None
        [delivery] = (await session.execute(select(Delivery))).scalars()
    assert delivery.type == "batch.cancelled"


async def test_cancelled_before_it_began(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a")])
    async with harness.resources.db.write() as session:
        assert await store.cancel(session, "proj_other", batch.id) is None
        for _ in range(2):
            assert await store.cancel(session, harness.project_id, batch.id) is not None
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)
    assert harness.engine.requests == []


async def test_a_cancel_that_the_worker_has_not_seen(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a")])
    batch_run = await harness.claim()
    assert batch_run is not None
    async with harness.resources.db.write() as session:
        await store.cancel(session, harness.project_id, batch.id)
    await batch_run.work()
    done = await harness.get_batch(batch)
    assert (done.status, done.in_progress_at, harness.engine.requests) == ("cancelled", None, [])


async def test_expired(harness: BatchHarness, small_parts: None) -> None:
    batch = await harness.insert_batch(
        [build_line(f"r{n}", "hang" if n == 6 else "broken" if n == 2 else "hi") for n in range(12)]
    )
    run_task = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await harness.update_batch(batch, expires_at=time.time() - 1)
    await asyncio.wait_for(run_task, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.completed, done.failed, done.total) == ("expired", 5, 7, 12)
    assert [line["custom_id"] for line in await harness.read_output(done.output_file_id)] == [
        "r0",
        "r1",
        "r3",
        "r4",
        "r5",
    ]
    errors = await harness.read_output(done.error_file_id)
    assert [line["custom_id"] for line in errors] == ["r2", *(f"r{n}" for n in range(6, 12))]
    assert {line["error"]["code"] for line in errors[1:]} == {"batch_expired"}
    assert {line["response"] for line in errors[1:]} == {None}


async def test_expired_before_it_began(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a"), build_line("b")], expires_at=1.0)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.output_file_id) == ("expired", None)
    assert [line["custom_id"] for line in await harness.read_output(done.error_file_id)] == ["a", "b"]


WORKER_SCRIPT = """
import asyncio, sys
from pathlib import Path
from jobs.batches import parts
from jobs.batches.worker import run_batch_worker
from jobs.resources import open_resources
from storage.settings import Settings

parts.PART_LINES = 4

async def main():
    async with open_resources(Settings()) as resources:
        await run_batch_worker(resources, Path(sys.argv[1]))

asyncio.run(main())
"""


async def test_a_killed_worker_loses_one_part_at_most(harness: BatchHarness, small_parts: None) -> None:
    harness.engine.delay_seconds = 0.05
    batch = await harness.insert_batch([build_line(f"r{n}", f"word {n}") for n in range(100)])
    environment = build_child_environment(harness.resources.settings, LUTHIER_LEASE_SECONDS="1")
    # The models of the fixture.
    environment["LUTHIER_MODELS_FILE"] = str(harness.resources.settings.models_file)
    command = [sys.executable, "-c", WORKER_SCRIPT, str(harness.home / "killed")]
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        while (await harness.get_batch(batch)).processed < 30:
            assert process.returncode is None
            await asyncio.sleep(0.01)
    finally:
        process.kill()
        await process.wait()
    committed = (await harness.get_batch(batch)).processed
    assert 30 <= committed < 100
    await asyncio.sleep(1.1)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.attempt, done.completed, done.failed) == ("completed", 2, 100, 0)
    assert [line["custom_id"] for line in await harness.read_output(done.output_file_id)] == [
        f"r{n}" for n in range(100)
    ]
    counts = harness.engine.count_messages()
    assert all(counts[f"word {n}"] == 1 for n in range(committed))
    assert sum(counts.values()) <= 100 + parts.PART_LINES + harness.resources.settings.engine_batch


async def test_a_stopping_worker_releases_its_batch(harness: BatchHarness, small_parts: None) -> None:
    harness.engine.delay_seconds = 0.05
    batch = await harness.insert_batch([build_line(f"r{n}") for n in range(60)])
    run_task = asyncio.create_task(run_batch_worker(harness.resources, harness.home))
    while (await harness.get_batch(batch)).processed < 8:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    run_task.cancel()
    await asyncio.gather(run_task, return_exceptions=True)
    released = await harness.get_batch(batch)
    assert (released.status, released.owner, released.lease_until) == ("in_progress", None, None)
    await harness.run_next()
    assert (await harness.get_batch(batch)).status == "completed"


async def test_a_worker_that_comes_back_late_writes_nothing(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a")])
    late = await harness.claim(lease=0.05)
    await asyncio.sleep(0.1)
    current = await harness.claim()
    assert late is not None
    assert current is not None
    part = BatchPart(batch_id=batch.id, first_request=0)
    async with harness.resources.db.write() as session:
        for write in (
            store.heartbeat(session, late.claim, 30),
            store.advance(session, late.claim, store.IN_PROGRESS, total=1),
            store.add_part(session, late.claim, part, processed=1),
            store.end(session, late.claim, store.COMPLETED),
        ):
            with pytest.raises(LeaseLost):
                await write
        await store.release(session, late.claim)
    await late.work()
    assert (await harness.get_batch(batch)).owner == current.claim.owner
    await current.work()
    assert (await harness.get_batch(batch)).completed == 1


async def test_requests_to_an_unavailable_engine_are_retried(
    harness: BatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await harness.insert_batch([build_line("a", "busy"), build_line("b")])
    run_task = asyncio.create_task(harness.run_next())
    await asyncio.sleep(0.3)
    assert not run_task.done()
    monkeypatch.setattr("tests.api.fake_engine.ERRORS", {})
    await asyncio.wait_for(run_task, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.completed, done.failed) == ("completed", 2, 0)
    assert harness.engine.count_messages()["busy"] > 1


async def set_project_limits(harness: BatchHarness, **limits: int) -> None:
    async with harness.resources.db.write() as session:
        await session.execute(update(Project).where(col(Project.id) == harness.project_id).values(**limits))


async def get_stored_bytes(harness: BatchHarness) -> int:
    async with harness.resources.db.read() as session:
        return await sum_stored_bytes(session, harness.project_id)


async def test_responses_stay_within_the_projects_storage_limit(harness: BatchHarness, small_parts: None) -> None:
    """Responses that fit are in the output file. The others leave no blobs."""
    await insert_webhook(harness.resources.db, harness.project_id)
    lines = [build_line(f"{n:02}", "same") for n in range(12)]
    before = await get_stored_bytes(harness)
    first = await harness.insert_batch(lines[:4])
    await harness.run_next()
    async with harness.resources.db.read() as session:
        part_bytes = (await session.get_one(File, str((await harness.get_batch(first)).output_file_id))).bytes
        first_input = (await session.get_one(File, first.input_file_id)).bytes
    assert await get_stored_bytes(harness) == before + first_input + part_bytes
    batch = await harness.insert_batch(lines)
    limit = await get_stored_bytes(harness) + 3 * part_bytes - 1
    await set_project_limits(harness, max_bytes=limit)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.processed, done.completed, done.failed) == ("failed", 8, 8, 0)
    assert done.errors is not None
    [error] = done.errors
    assert (error["code"], error["line"]) == ("quota_exceeded", None)
    assert "'max_bytes'" in error["message"]
    assert [line["custom_id"] for line in await harness.read_output(done.output_file_id)] == [
        f"{n:02}" for n in range(8)
    ]
    assert await get_stored_bytes(harness) == limit + 1 - part_bytes
    await parts.clean_up(harness.resources)
    assert list(harness.resources.blobs.list(batch_prefix(batch))) == []
    async with harness.resources.db.read() as session:
        event_types = (
            (await session.execute(select(col(Delivery.type)).order_by(col(Delivery.created_at)))).scalars().all()
        )
        files = set((await session.execute(select(col(File.blob_key)))).scalars())
    assert event_types == ["batch.completed", "batch.failed"]
    assert {blob.key for blob in harness.resources.blobs.list(f"projects/{harness.project_id}/files")} == files


async def test_responses_count_while_their_batch_is_running(harness: BatchHarness, small_parts: None) -> None:
    batch = await harness.insert_batch([build_line(f"r{n}", "hang" if n == 4 else "hi") for n in range(5)])
    before, run_task = await get_stored_bytes(harness), asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await get_stored_bytes(harness) - before == (await harness.get_batch(batch)).output_bytes > 0
    run_task.cancel()
    await asyncio.gather(run_task, return_exceptions=True)


async def test_queued_requests_are_limited(harness: BatchHarness) -> None:
    async with harness.resources.db.write() as session:
        other = (await keys.create_project(session, "other")).id
    long = await harness.insert_batch(
        [build_line("a")], status="in_progress", total=9, processed=6, lease_until=time.time() + 3600
    )
    await harness.insert_batch(
        [build_line("a")], status="in_progress", total=9, lease_until=time.time() + 3600, project_id=other
    )
    await set_project_limits(harness, max_queued_requests=5)
    for count, status in ((3, "failed"), (2, "completed")):
        batch = await harness.insert_batch([build_line(f"r{n}") for n in range(count)])
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert done.status == status
        if status == "failed":
            assert done.errors is not None
            assert (done.errors[0]["code"], done.total, done.output_file_id) == ("request_limit_exceeded", 0, None)
            assert "5 queued requests in batches. It has 3, and this file adds 3." in done.errors[0]["message"]
    await harness.update_batch(long, status="completed")
    batch = await harness.insert_batch([build_line(f"r{n}") for n in range(5)])
    await harness.run_next()
    assert (await harness.get_batch(batch)).status == "completed"


async def test_projects_take_turns(harness: BatchHarness) -> None:
    async with harness.resources.db.write() as session:
        other = (await keys.create_project(session, "other")).id
    greedy = [await harness.insert_batch([build_line("a")], created_at=float(n)) for n in range(3)]
    modest = await harness.insert_batch([build_line("a")], created_at=9.0, project_id=other)
    order = [batch_run.batch.id for batch_run in [await harness.claim() for _ in range(4)] if batch_run]
    assert order == [greedy[0].id, modest.id, greedy[1].id, greedy[2].id]
    assert await harness.claim() is None


async def test_a_long_batch_yields_to_a_waiting_one(
    harness: BatchHarness, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.batches.worker.SLICE_SECONDS", 0.0)
    long = await harness.insert_batch([build_line(f"r{n}") for n in range(20)], created_at=1.0)
    short = await harness.insert_batch([build_line("a")], created_at=2.0)
    await harness.run_next()
    assert (await harness.get_batch(long)).processed == 4
    await harness.run_next()
    assert (await harness.get_batch(short)).status == "completed"
    await harness.run_next()
    assert ((await harness.get_batch(long)).status, (await harness.get_batch(long)).processed) == ("completed", 20)


async def test_counts_are_live(harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_SECONDS", 0.1)
    batch = await harness.insert_batch([build_line("a"), build_line("b"), build_line("c", "hang")])
    run_task = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).completed < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert (await harness.get_batch(batch)).total == 3
    run_task.cancel()
    await asyncio.gather(run_task, return_exceptions=True)
