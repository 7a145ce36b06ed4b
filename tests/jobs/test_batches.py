"""Work on batches: what is refused, what is answered, and what a worker leaves that dies or is told to stop.

The engine is a tiny one that speaks the real one's protocol; database, blobs and workers are real.
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

pytestmark = pytest.mark.anyio

URL = "/v1/chat/completions"


class SlowEngine(FakeEngine):
    """``now`` and ``most``: chats at work."""

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
        """How often each was asked."""
        return Counter(asked["body"]["messages"][-1]["content"] for asked in self.requests)


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
        given = {
            "id": new_id("batch"),
            "project_id": self.project_id,
            "created_at": now,
            "endpoint": URL,
            "input_file_id": (await self.insert_file(data)).id,
            "completion_window": "24h",
            "expires_at": now + 86400,
        }
        row = Batch(**{**given, **values})
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
            found = await store.claim(session, "w", lease)
        return BatchRun(self.resources, *found, folder=self.home / "scratch") if found else None

    async def run_next(self) -> None:
        """One claim, to its end."""
        found = await self.claim()
        assert found is not None
        await found.work()

    async def read_output(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        async with self.resources.db.read() as session:
            file = await session.get_one(File, file_id)
        assert (file.purpose, file.project_id) == ("batch_output", self.project_id)
        return [json.loads(line) for line in read(self.resources.blobs, file.blob_key, file.sha256).splitlines()]


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[BatchHarness]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
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
    asked = {"model": "starter", "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": asked}


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
    assert times == sorted(times, key=lambda at: at or 0)
    assert all(times)
    output = await harness.read_output(done.output_file_id)
    assert [found["custom_id"] for found in output] == [f"r{n}" for n in range(40)]
    first = output[0]
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert (first["id"][:10], first["error"]) == ("batch_req_", None)
    assert (first["response"]["status_code"], first["response"]["request_id"][:4]) == (200, "req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "You said word 0."
    async with harness.resources.db.read() as session:
        file = await session.get_one(File, str(done.output_file_id))
        [told] = (await session.execute(select(Delivery))).scalars()
    assert file.expires_at == pytest.approx(file.created_at + 3600)
    assert (told.type, json.loads(told.body)["data"]) == ("batch.completed", {"id": batch.id})
    await parts.clean_up(harness.resources)
    assert list(harness.resources.blobs.list(batch_prefix(batch))) == []
    async with harness.resources.db.read() as session:
        [used] = (await session.execute(select(Usage))).scalars()
    assert (used.key_id, used.kind, used.model) == ("key_x", "chat", "starter")
    assert (used.requests, used.input_tokens, used.output_tokens) == (40, 120, 80)
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
    bad = [
        build_line("no-messages", messages=[]),
        build_line("unknown", colour="red"),
        build_line("too hot", temperature=9),
        build_line("streamed", stream=True),
        build_line("legacy", function_call={"name": "f"}),
        build_line("long", "too long"),
        build_line("engine fails", "broken"),
    ]
    good = [build_line(f"good {n}", f"word {n}") for n in range(len(bad))]
    mixed = [each for pair in zip(bad, good, strict=True) for each in pair]
    batch = await harness.insert_batch(mixed)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.total, done.completed, done.failed) == ("completed", 14, 7, 7)
    output, errors = await harness.read_output(done.output_file_id), await harness.read_output(done.error_file_id)
    assert [found["custom_id"] for found in output] == [each["custom_id"] for each in good]
    assert [found["custom_id"] for found in errors] == [each["custom_id"] for each in bad]
    found = [(each["response"]["status_code"], each["response"]["body"]["error"]) for each in errors]
    assert [(status, error["param"], error["code"]) for status, error in found] == [
        (400, "messages", "invalid_value"),
        (400, "colour", "unknown_parameter"),
        (400, "temperature", "invalid_value"),
        (400, "stream", "unsupported_parameter"),
        (400, "function_call", "unsupported_parameter"),
        (400, "messages", "context_length_exceeded"),
        (500, None, "internal_error"),
    ]
    assert all(set(error) == {"message", "type", "param", "code"} for _, error in found)


async def test_every_endpoint(harness: BatchHarness) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"model": "starter", "prompt": "Once"},
        "/v1/embeddings": {"model": "encoder", "input": ["a", "b"]},
        "/v1/predictions": {"model": "encoder", "inputs": ["a", {"text": "b"}]},
    }
    for url, body in bodies.items():
        each = {"custom_id": "1", "method": "POST", "url": url, "body": body}
        batch = await harness.insert_batch([each], endpoint=url)
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert (done.status, done.completed, done.errors) == ("completed", 1, None)
        [found] = await harness.read_output(done.output_file_id)
        assert found["response"]["body"]["usage"]["prompt_tokens"] > 0


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
    "a field more": ([{**build_line("a"), "colour": 1}], [("unknown_parameter", "colour", 1)]),
    "no model": ([build_line("a", model=None)], [("missing_required_parameter", "body.model", 1)]),
    "unknown model": ([build_line("a"), build_line("b", model="gpt-9")], [("model_not_found", "body.model", 2)]),
    "unfit model": ([build_line("a", model="encoder")], [("unsuitable_model", "body.model", 1)]),
    "absent model": ([build_line("a", model="absent")], [("base_model_unavailable", "body.model", 1)]),
    "two faults": (
        [{**build_line("a"), "url": "x"}, build_line("a", model="")],
        [
            ("invalid_url", "url", 1),
            ("duplicate_custom_id", "custom_id", 2),
            ("missing_required_parameter", "body.model", 2),
        ],
    ),
    "models": ([build_line(str(n), model=f"m{n}") for n in range(101)], [("too_many_models", "body.model", 101)]),
}


async def test_files_that_are_refused(harness: BatchHarness) -> None:
    for name, (data, faults) in REJECTED_FILES.items():
        batch = await harness.insert_batch(data)
        await harness.run_next()
        done = await harness.get_batch(batch)
        assert (done.status, done.output_file_id, done.error_file_id) == ("failed", None, None), name
        assert done.failed_at is not None
        assert done.errors is not None
        found = [(each["code"], each["param"], each["line"]) for each in done.errors]
        assert found == faults if name != "models" else len(found) == input_file.MAX_ERRORS, name
        assert all(each["message"] for each in done.errors)
    assert harness.engine.requests == []


def test_long_lines_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "in"
    text = json.dumps(build_line("a")).encode()
    path.write_bytes(b"\xef\xbb\xbf" + text + b"\n" + b"x" * 10_000 + b"\n\n" + json.dumps(build_line("c")).encode())
    found = [
        (number, each.code if isinstance(each, input_file.BatchError) else each.custom_id)
        for number, each in input_file.read_requests(path, 1000)
    ]
    assert found == [(1, "a"), (2, "line_too_long"), (4, "c")]


def test_too_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINES", 3)
    path = tmp_path / "in"
    path.write_bytes(b"".join(json.dumps(build_line(str(n))).encode() + b"\n" for n in range(9)))
    assert [(fault.code, fault.line) for fault in input_file.validate_input_file(path, URL, 1000).errors] == [
        ("too_many_lines", 4)
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_damaged_or_missing_input(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a")])
    async with harness.resources.db.write() as session:
        await session.execute(update(File).values(sha256="0" * 64))
    gone = await harness.insert_batch([build_line("a")], input_file_id="file-gone")
    for each in (batch, gone):
        await harness.run_next()
        done = await harness.get_batch(each)
        assert done.errors is not None
        assert (done.status, done.errors[0]["code"]) == ("failed", "file_unreadable")


async def test_cancelled_in_the_middle(harness: BatchHarness, small_parts: None) -> None:
    await insert_webhook(harness.resources.db, harness.project_id)
    harness.engine.delay_seconds = 0.05
    batch = await harness.insert_batch([build_line(f"r{n}", "hang" if n == 20 else f"word {n}") for n in range(60)])
    working = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 12:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    async with harness.resources.db.write() as session:
        asked = await store.cancel(session, harness.project_id, batch.id)
    assert asked is not None
    assert (asked.status, asked.cancelling_at is not None) == ("cancelling", True)
    await asyncio.wait_for(working, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.processed, done.completed) == ("cancelled", 20, 20)
    assert done.cancelled_at is not None
    output = await harness.read_output(done.output_file_id)
    assert [found["custom_id"] for found in output] == [f"r{n}" for n in range(20)]
    async with harness.resources.db.write() as session:
        assert await store.cancel(session, harness.project_id, batch.id) is None
        [told] = (await session.execute(select(Delivery))).scalars()
    assert told.type == "batch.cancelled"


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
    work = await harness.claim()
    assert work is not None
    async with harness.resources.db.write() as session:
        await store.cancel(session, harness.project_id, batch.id)
    await work.work()
    done = await harness.get_batch(batch)
    assert (done.status, done.in_progress_at, harness.engine.requests) == ("cancelled", None, [])


async def test_expired(harness: BatchHarness, small_parts: None) -> None:
    batch = await harness.insert_batch(
        [build_line(f"r{n}", "hang" if n == 6 else "broken" if n == 2 else "hi") for n in range(12)]
    )
    working = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await harness.update_batch(batch, expires_at=time.time() - 1)
    await asyncio.wait_for(working, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.completed, done.failed, done.total) == ("expired", 5, 7, 12)
    assert [each["custom_id"] for each in await harness.read_output(done.output_file_id)] == [
        "r0",
        "r1",
        "r3",
        "r4",
        "r5",
    ]
    errors = await harness.read_output(done.error_file_id)
    assert [each["custom_id"] for each in errors] == ["r2", *(f"r{n}" for n in range(6, 12))]
    assert {each["error"]["code"] for each in errors[1:]} == {"batch_expired"}
    assert {each["response"] for each in errors[1:]} == {None}


async def test_expired_before_it_began(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a"), build_line("b")], expires_at=1.0)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.output_file_id) == ("expired", None)
    assert [each["custom_id"] for each in await harness.read_output(done.error_file_id)] == ["a", "b"]


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
    # As the fixture made them.
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
    assert [each["custom_id"] for each in await harness.read_output(done.output_file_id)] == [
        f"r{n}" for n in range(100)
    ]
    asked = harness.engine.count_messages()
    assert all(asked[f"word {n}"] == 1 for n in range(committed))
    assert sum(asked.values()) <= 100 + parts.PART_LINES + harness.resources.settings.engine_batch


async def test_a_worker_that_leaves_gives_its_batch_back(harness: BatchHarness, small_parts: None) -> None:
    harness.engine.delay_seconds = 0.05
    batch = await harness.insert_batch([build_line(f"r{n}") for n in range(60)])
    working = asyncio.create_task(run_batch_worker(harness.resources, harness.home))
    while (await harness.get_batch(batch)).processed < 8:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    left = await harness.get_batch(batch)
    assert (left.status, left.owner, left.lease_until) == ("in_progress", None, None)
    await harness.run_next()
    assert (await harness.get_batch(batch)).status == "completed"


async def test_a_worker_that_comes_back_late_writes_nothing(harness: BatchHarness) -> None:
    batch = await harness.insert_batch([build_line("a")])
    late = await harness.claim(lease=0.05)
    await asyncio.sleep(0.1)
    taken = await harness.claim()
    assert late is not None
    assert taken is not None
    part = BatchPart(batch_id=batch.id, first_request=0)
    async with harness.resources.db.write() as session:
        for writing in (
            store.heartbeat(session, late.claim, 30),
            store.advance(session, late.claim, store.IN_PROGRESS, total=1),
            store.add_part(session, late.claim, part, processed=1),
            store.end(session, late.claim, store.COMPLETED),
        ):
            with pytest.raises(LeaseLost):
                await writing
        await store.release(session, late.claim)
    await late.work()
    assert (await harness.get_batch(batch)).owner == taken.claim.owner
    await taken.work()
    assert (await harness.get_batch(batch)).completed == 1


async def test_an_engine_that_is_away_is_waited_for(harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await harness.insert_batch([build_line("a", "busy"), build_line("b")])
    working = asyncio.create_task(harness.run_next())
    await asyncio.sleep(0.3)
    assert not working.done()
    monkeypatch.setattr("tests.api.fake_engine.ERRORS", {})
    await asyncio.wait_for(working, 10)
    done = await harness.get_batch(batch)
    assert (done.status, done.completed, done.failed) == ("completed", 2, 0)
    assert harness.engine.count_messages()["busy"] > 1


async def set_project_limits(harness: BatchHarness, **limits: int) -> None:
    async with harness.resources.db.write() as session:
        await session.execute(update(Project).where(col(Project.id) == harness.project_id).values(**limits))


async def get_stored_bytes(harness: BatchHarness) -> int:
    async with harness.resources.db.read() as session:
        return await sum_stored_bytes(session, harness.project_id)


async def test_answers_stay_within_the_project_s_bytes(harness: BatchHarness, small_parts: None) -> None:
    """What fits is in the output file; what does not leaves nothing behind."""
    await insert_webhook(harness.resources.db, harness.project_id)
    asked = [build_line(f"{n:02}", "same") for n in range(12)]
    before = await get_stored_bytes(harness)
    first = await harness.insert_batch(asked[:4])
    await harness.run_next()
    async with harness.resources.db.read() as session:
        of_a_part = (await session.get_one(File, str((await harness.get_batch(first)).output_file_id))).bytes
        first_input = (await session.get_one(File, first.input_file_id)).bytes
    assert await get_stored_bytes(harness) == before + first_input + of_a_part
    batch = await harness.insert_batch(asked)
    limit = await get_stored_bytes(harness) + 3 * of_a_part - 1
    await set_project_limits(harness, max_bytes=limit)
    await harness.run_next()
    done = await harness.get_batch(batch)
    assert (done.status, done.processed, done.completed, done.failed) == ("failed", 8, 8, 0)
    assert done.errors is not None
    [fault] = done.errors
    assert (fault["code"], fault["line"]) == ("quota_exceeded", None)
    assert "'max_bytes'" in fault["message"]
    assert [each["custom_id"] for each in await harness.read_output(done.output_file_id)] == [
        f"{n:02}" for n in range(8)
    ]
    assert await get_stored_bytes(harness) == limit + 1 - of_a_part
    await parts.clean_up(harness.resources)
    assert list(harness.resources.blobs.list(batch_prefix(batch))) == []
    async with harness.resources.db.read() as session:
        told = (await session.execute(select(col(Delivery.type)).order_by(col(Delivery.created_at)))).scalars().all()
        files = set((await session.execute(select(col(File.blob_key)))).scalars())
    assert told == ["batch.completed", "batch.failed"]
    assert {blob.key for blob in harness.resources.blobs.list(f"projects/{harness.project_id}/files")} == files


async def test_answers_count_while_their_batch_is_running(harness: BatchHarness, small_parts: None) -> None:
    batch = await harness.insert_batch([build_line(f"r{n}", "hang" if n == 4 else "hi") for n in range(5)])
    before, working = await get_stored_bytes(harness), asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).processed < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await get_stored_bytes(harness) - before == (await harness.get_batch(batch)).output_bytes > 0
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_project_s_queue_has_an_end(harness: BatchHarness) -> None:
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
            assert "5 unanswered requests in batches and has 3; the 3 of this file" in done.errors[0]["message"]
    await harness.update_batch(long, status="completed")
    batch = await harness.insert_batch([build_line(f"r{n}") for n in range(5)])
    await harness.run_next()
    assert (await harness.get_batch(batch)).status == "completed"


async def test_projects_take_turns(harness: BatchHarness) -> None:
    async with harness.resources.db.write() as session:
        other = (await keys.create_project(session, "other")).id
    greedy = [await harness.insert_batch([build_line("a")], created_at=float(n)) for n in range(3)]
    modest = await harness.insert_batch([build_line("a")], created_at=9.0, project_id=other)
    order = [found.batch.id for found in [await harness.claim() for _ in range(4)] if found]
    assert order == [greedy[0].id, modest.id, greedy[1].id, greedy[2].id]
    assert await harness.claim() is None


async def test_a_long_batch_yields_to_one_that_waits(
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
    working = asyncio.create_task(harness.run_next())
    while (await harness.get_batch(batch)).completed < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert (await harness.get_batch(batch)).total == 3
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
