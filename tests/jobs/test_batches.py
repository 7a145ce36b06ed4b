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
from jobs.batches.worker import Work, work_for_ever
from jobs.blob_keys import batch_prefix
from jobs.lifecycle.transitions import LeaseLost
from jobs.resources import Resources, open_resources
from storage.access import keys
from storage.access.limits import stored_bytes
from storage.blobs import read
from storage.ids import new_id
from storage.settings import child_environment
from storage.tables import Batch, BatchPart, Delivery, File, Project, Usage
from tests.api.fake_engine import TinyEngine
from tests.api.stack import new_settings, serving
from tests.jobs.test_webhooks import hook

pytestmark = pytest.mark.anyio

URL = "/v1/chat/completions"


class SlowEngine(TinyEngine):
    """``now`` and ``most``: chats at work."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.now = self.most = 0
        self.seconds = 0.0

    async def chat(self, request: Request) -> Response:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await super().chat(request)
        finally:
            self.now -= 1

    def words(self) -> Counter[str]:
        """How often each was asked."""
        return Counter(asked["body"]["messages"][-1]["content"] for asked in self.asked)


@dataclass
class Bench:
    rooms: Resources
    engine: SlowEngine
    project_id: str
    home: Path

    async def file(self, data: bytes) -> File:
        file_id = new_id("file")
        key = f"projects/{self.project_id}/files/{file_id}"
        stored = self.rooms.blobs.put_bytes(key, data)
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
        async with self.rooms.db.write() as session:
            session.add(row)
        return row

    async def batch(self, data: bytes | list[dict[str, Any]], **values: Any) -> Batch:
        if isinstance(data, list):
            data = b"".join(json.dumps(line).encode() + b"\n" for line in data)
        now = time.time()
        given = {
            "id": new_id("batch"),
            "project_id": self.project_id,
            "created_at": now,
            "endpoint": URL,
            "input_file_id": (await self.file(data)).id,
            "completion_window": "24h",
            "expires_at": now + 86400,
        }
        row = Batch(**{**given, **values})
        async with self.rooms.db.write() as session:
            session.add(row)
        return row

    async def get(self, batch: Batch) -> Batch:
        async with self.rooms.db.read() as session:
            return await session.get_one(Batch, batch.id)

    async def set(self, batch: Batch, **values: Any) -> None:
        async with self.rooms.db.write() as session:
            await session.execute(update(Batch).where(col(Batch.id) == batch.id).values(**values))

    async def claim(self, lease: float = 30.0) -> Work | None:
        async with self.rooms.db.write() as session:
            found = await store.claim(session, "w", lease)
        return Work(self.rooms, *found, folder=self.home / "scratch") if found else None

    async def work(self) -> None:
        """One claim, to its end."""
        found = await self.claim()
        assert found is not None
        await found.work()

    async def answered(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        async with self.rooms.db.read() as session:
            file = await session.get_one(File, file_id)
        assert (file.purpose, file.project_id) == ("batch_output", self.project_id)
        return [json.loads(line) for line in read(self.rooms.blobs, file.blob_key, file.sha256).splitlines()]


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        home = Path(folder)
        settings = new_settings(home, database_url=database_url, poll_seconds=0.05)
        async with open_resources(settings) as rooms:
            engine = SlowEngine(rooms.blobs)
            async with rooms.db.write() as session:
                project_id = (await keys.create_project(session, "test")).id
            with serving(engine.app, uds=settings.inference_url.removeprefix("unix://"), lifespan="off"):
                yield Bench(rooms, engine, project_id, home)


@pytest.fixture
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_LINES", 4)
        yield


def line(custom_id: str, words: str = "hello", **body: Any) -> dict[str, Any]:
    asked = {"model": "starter", "messages": [{"role": "user", "content": words}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": asked}


async def test_from_file_to_file(bench: Bench) -> None:
    await hook(bench.rooms.db, bench.project_id)
    batch = await bench.batch(
        [line(f"r{n}", f"word {n}") for n in range(40)], key_id="key_x", output_expires_after=3600
    )
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.total, done.completed, done.failed, done.done) == ("completed", 40, 40, 0, 40)
    assert (done.model, done.input_tokens, done.output_tokens) == ("starter", 120, 80)
    assert (done.owner, done.lease_until, done.error_file_id, done.errors) == (None, None, None, None)
    times = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert times == sorted(times, key=lambda at: at or 0)
    assert all(times)
    output = await bench.answered(done.output_file_id)
    assert [found["custom_id"] for found in output] == [f"r{n}" for n in range(40)]
    first = output[0]
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert (first["id"][:10], first["error"]) == ("batch_req_", None)
    assert (first["response"]["status_code"], first["response"]["request_id"][:4]) == (200, "req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "You said word 0."
    async with bench.rooms.db.read() as session:
        file = await session.get_one(File, str(done.output_file_id))
        [told] = (await session.execute(select(Delivery))).scalars()
    assert file.expires_at == pytest.approx(file.created_at + 3600)
    assert (told.type, json.loads(told.body)["data"]) == ("batch.completed", {"id": batch.id})
    await parts.tidy(bench.rooms)
    assert list(bench.rooms.blobs.list(batch_prefix(batch))) == []
    async with bench.rooms.db.read() as session:
        [used] = (await session.execute(select(Usage))).scalars()
    assert (used.key_id, used.kind, used.model) == ("key_x", "chat", "starter")
    assert (used.requests, used.input_tokens, used.output_tokens) == (40, 120, 80)
    async with bench.rooms.db.read() as session:
        assert (await session.execute(select(BatchPart))).first() is None
    async with bench.rooms.db.single() as connection:
        assert await store.untidy(connection) == []


async def test_the_engine_is_asked_several_lines_at_once(bench: Bench) -> None:
    bench.engine.seconds = 0.05
    await bench.batch([line(f"r{n}") for n in range(40)])
    await bench.work()
    assert 8 <= bench.engine.most <= bench.rooms.settings.engine_batch == 16


async def test_half_of_the_lines_are_bad(bench: Bench) -> None:
    bad = [
        line("no-messages", messages=[]),
        line("unknown", colour="red"),
        line("too hot", temperature=9),
        line("streamed", stream=True),
        line("legacy", function_call={"name": "f"}),
        line("long", "too long"),
        line("engine fails", "broken"),
    ]
    good = [line(f"good {n}", f"word {n}") for n in range(len(bad))]
    mixed = [each for pair in zip(bad, good, strict=True) for each in pair]
    batch = await bench.batch(mixed)
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.total, done.completed, done.failed) == ("completed", 14, 7, 7)
    output, errors = await bench.answered(done.output_file_id), await bench.answered(done.error_file_id)
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


async def test_every_endpoint(bench: Bench) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"model": "starter", "prompt": "Once"},
        "/v1/embeddings": {"model": "encoder", "input": ["a", "b"]},
        "/v1/predictions": {"model": "encoder", "inputs": ["a", {"text": "b"}]},
    }
    for url, body in bodies.items():
        each = {"custom_id": "1", "method": "POST", "url": url, "body": body}
        batch = await bench.batch([each], endpoint=url)
        await bench.work()
        done = await bench.get(batch)
        assert (done.status, done.completed, done.errors) == ("completed", 1, None)
        [found] = await bench.answered(done.output_file_id)
        assert found["response"]["body"]["usage"]["prompt_tokens"] > 0


REFUSED: dict[str, tuple[bytes | list[dict[str, Any]], list[tuple[str, str | None, int | None]]]] = {
    "empty": (b"", [("empty_file", None, None)]),
    "blank": (b"\n  \n", [("empty_file", None, None)]),
    "no json": (b'{"custom_id": \n', [("invalid_json_line", None, 1)]),
    "nan": (b'\n{"custom_id": NaN}\n', [("invalid_json_line", None, 2)]),
    "utf-16": (json.dumps(line("a")).encode("utf-16"), [("invalid_json_line", None, 1)]),
    "list": (b"[1]\n", [("invalid_request", None, 1)]),
    "no custom_id": ([{**line("a"), "custom_id": ""}], [("invalid_request", "custom_id", 1)]),
    "same custom_id": ([line("a"), line("b"), line("a")], [("duplicate_custom_id", "custom_id", 3)]),
    "method": ([line("a"), {**line("b"), "method": "GET"}], [("invalid_request", "method", 2)]),
    "url": ([{**line("a"), "url": "/v1/embeddings"}], [("invalid_url", "url", 1)]),
    "no body": ([{"custom_id": "a", "method": "POST", "url": URL}], [("missing_required_parameter", "body", 1)]),
    "a field more": ([{**line("a"), "colour": 1}], [("unknown_parameter", "colour", 1)]),
    "no model": ([line("a", model=None)], [("missing_required_parameter", "body.model", 1)]),
    "unknown model": ([line("a"), line("b", model="gpt-9")], [("model_not_found", "body.model", 2)]),
    "unfit model": ([line("a", model="encoder")], [("unsuitable_model", "body.model", 1)]),
    "absent model": ([line("a", model="absent")], [("base_model_unavailable", "body.model", 1)]),
    "two faults": (
        [{**line("a"), "url": "x"}, line("a", model="")],
        [
            ("invalid_url", "url", 1),
            ("duplicate_custom_id", "custom_id", 2),
            ("missing_required_parameter", "body.model", 2),
        ],
    ),
    "models": ([line(str(n), model=f"m{n}") for n in range(101)], [("too_many_models", "body.model", 101)]),
}


async def test_files_that_are_refused(bench: Bench) -> None:
    for name, (data, faults) in REFUSED.items():
        batch = await bench.batch(data)
        await bench.work()
        done = await bench.get(batch)
        assert (done.status, done.output_file_id, done.error_file_id) == ("failed", None, None), name
        assert done.failed_at is not None
        assert done.errors is not None
        found = [(each["code"], each["param"], each["line"]) for each in done.errors]
        assert found == faults if name != "models" else len(found) == input_file.MAX_FAULTS, name
        assert all(each["message"] for each in done.errors)
    assert bench.engine.asked == []


def test_long_lines_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "in"
    text = json.dumps(line("a")).encode()
    path.write_bytes(b"\xef\xbb\xbf" + text + b"\n" + b"x" * 10_000 + b"\n\n" + json.dumps(line("c")).encode())
    found = [
        (number, each.code if isinstance(each, input_file.Fault) else each.custom_id)
        for number, each in input_file.requests(path, 1000)
    ]
    assert found == [(1, "a"), (2, "line_too_long"), (4, "c")]


def test_too_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINES", 3)
    path = tmp_path / "in"
    path.write_bytes(b"".join(json.dumps(line(str(n))).encode() + b"\n" for n in range(9)))
    assert [(fault.code, fault.line) for fault in input_file.check(path, URL, 1000).faults] == [("too_many_lines", 4)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_damaged_or_missing_input(bench: Bench) -> None:
    batch = await bench.batch([line("a")])
    async with bench.rooms.db.write() as session:
        await session.execute(update(File).values(sha256="0" * 64))
    gone = await bench.batch([line("a")], input_file_id="file-gone")
    for each in (batch, gone):
        await bench.work()
        done = await bench.get(each)
        assert done.errors is not None
        assert (done.status, done.errors[0]["code"]) == ("failed", "file_unreadable")


async def test_cancelled_in_the_middle(bench: Bench, small_parts: None) -> None:
    await hook(bench.rooms.db, bench.project_id)
    bench.engine.seconds = 0.05
    batch = await bench.batch([line(f"r{n}", "hang" if n == 20 else f"word {n}") for n in range(60)])
    working = asyncio.create_task(bench.work())
    while (await bench.get(batch)).done < 12:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    async with bench.rooms.db.write() as session:
        asked = await store.cancel(session, bench.project_id, batch.id)
    assert asked is not None
    assert (asked.status, asked.cancelling_at is not None) == ("cancelling", True)
    await asyncio.wait_for(working, 10)
    done = await bench.get(batch)
    assert (done.status, done.done, done.completed) == ("cancelled", 20, 20)
    assert done.cancelled_at is not None
    output = await bench.answered(done.output_file_id)
    assert [found["custom_id"] for found in output] == [f"r{n}" for n in range(20)]
    async with bench.rooms.db.write() as session:
        assert await store.cancel(session, bench.project_id, batch.id) is None
        [told] = (await session.execute(select(Delivery))).scalars()
    assert told.type == "batch.cancelled"


async def test_cancelled_before_it_began(bench: Bench) -> None:
    batch = await bench.batch([line("a")])
    async with bench.rooms.db.write() as session:
        assert await store.cancel(session, "proj_other", batch.id) is None
        for _ in range(2):
            assert await store.cancel(session, bench.project_id, batch.id) is not None
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)
    assert bench.engine.asked == []


async def test_a_cancel_that_the_worker_has_not_heard_of(bench: Bench) -> None:
    batch = await bench.batch([line("a")])
    work = await bench.claim()
    assert work is not None
    async with bench.rooms.db.write() as session:
        await store.cancel(session, bench.project_id, batch.id)
    await work.work()
    done = await bench.get(batch)
    assert (done.status, done.in_progress_at, bench.engine.asked) == ("cancelled", None, [])


async def test_expired(bench: Bench, small_parts: None) -> None:
    batch = await bench.batch([line(f"r{n}", "hang" if n == 6 else "broken" if n == 2 else "hi") for n in range(12)])
    working = asyncio.create_task(bench.work())
    while (await bench.get(batch)).done < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await bench.set(batch, expires_at=time.time() - 1)
    await asyncio.wait_for(working, 10)
    done = await bench.get(batch)
    assert (done.status, done.completed, done.failed, done.total) == ("expired", 5, 7, 12)
    assert [each["custom_id"] for each in await bench.answered(done.output_file_id)] == ["r0", "r1", "r3", "r4", "r5"]
    errors = await bench.answered(done.error_file_id)
    assert [each["custom_id"] for each in errors] == ["r2", *(f"r{n}" for n in range(6, 12))]
    assert {each["error"]["code"] for each in errors[1:]} == {"batch_expired"}
    assert {each["response"] for each in errors[1:]} == {None}


async def test_expired_before_it_began(bench: Bench) -> None:
    batch = await bench.batch([line("a"), line("b")], expires_at=1.0)
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.output_file_id) == ("expired", None)
    assert [each["custom_id"] for each in await bench.answered(done.error_file_id)] == ["a", "b"]


KILLED = """
import asyncio, sys
from pathlib import Path
from jobs.batches import parts
from jobs.batches.work import work_for_ever
from jobs.resources import open_rooms
from storage.settings import Settings

parts.PART_LINES = 4

async def main():
    async with open_rooms(Settings()) as rooms:
        await work_for_ever(rooms, Path(sys.argv[1]))

asyncio.run(main())
"""


async def test_a_killed_worker_loses_one_part_at_most(bench: Bench, small_parts: None) -> None:
    bench.engine.seconds = 0.05
    batch = await bench.batch([line(f"r{n}", f"word {n}") for n in range(100)])
    environment = child_environment(bench.rooms.settings, LUTHIER_LEASE_SECONDS="1")
    # As the fixture made them.
    environment["LUTHIER_MODELS_FILE"] = str(bench.rooms.settings.models_file)
    command = [sys.executable, "-c", KILLED, str(bench.home / "killed")]
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        while (await bench.get(batch)).done < 30:
            assert process.returncode is None
            await asyncio.sleep(0.01)
    finally:
        process.kill()
        await process.wait()
    committed = (await bench.get(batch)).done
    assert 30 <= committed < 100
    await asyncio.sleep(1.1)
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.attempt, done.completed, done.failed) == ("completed", 2, 100, 0)
    assert [each["custom_id"] for each in await bench.answered(done.output_file_id)] == [f"r{n}" for n in range(100)]
    asked = bench.engine.words()
    assert all(asked[f"word {n}"] == 1 for n in range(committed))
    assert sum(asked.values()) <= 100 + parts.PART_LINES + bench.rooms.settings.engine_batch


async def test_a_worker_that_leaves_gives_its_batch_back(bench: Bench, small_parts: None) -> None:
    bench.engine.seconds = 0.05
    batch = await bench.batch([line(f"r{n}") for n in range(60)])
    working = asyncio.create_task(work_for_ever(bench.rooms, bench.home))
    while (await bench.get(batch)).done < 8:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    left = await bench.get(batch)
    assert (left.status, left.owner, left.lease_until) == ("in_progress", None, None)
    await bench.work()
    assert (await bench.get(batch)).status == "completed"


async def test_a_worker_that_comes_back_late_writes_nothing(bench: Bench) -> None:
    batch = await bench.batch([line("a")])
    late = await bench.claim(lease=0.05)
    await asyncio.sleep(0.1)
    taken = await bench.claim()
    assert late is not None
    assert taken is not None
    part = BatchPart(batch_id=batch.id, first=0)
    async with bench.rooms.db.write() as session:
        for writing in (
            store.heartbeat(session, late.claim, 30),
            store.advance(session, late.claim, store.IN_PROGRESS, total=1),
            store.add_part(session, late.claim, part, done=1),
            store.end(session, late.claim, store.COMPLETED),
        ):
            with pytest.raises(LeaseLost):
                await writing
        await store.release(session, late.claim)
    await late.work()
    assert (await bench.get(batch)).owner == taken.claim.owner
    await taken.work()
    assert (await bench.get(batch)).completed == 1


async def test_an_engine_that_is_away_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await bench.batch([line("a", "busy"), line("b")])
    working = asyncio.create_task(bench.work())
    await asyncio.sleep(0.3)
    assert not working.done()
    monkeypatch.setattr("tests.api.fake_engine.ERRORS", {})
    await asyncio.wait_for(working, 10)
    done = await bench.get(batch)
    assert (done.status, done.completed, done.failed) == ("completed", 2, 0)
    assert bench.engine.words()["busy"] > 1


async def limited(bench: Bench, **limits: int) -> None:
    async with bench.rooms.db.write() as session:
        await session.execute(update(Project).where(col(Project.id) == bench.project_id).values(**limits))


async def kept(bench: Bench) -> int:
    async with bench.rooms.db.read() as session:
        return await stored_bytes(session, bench.project_id)


async def test_answers_stay_within_the_project_s_bytes(bench: Bench, small_parts: None) -> None:
    """What fits is in the output file; what does not leaves nothing behind."""
    await hook(bench.rooms.db, bench.project_id)
    asked = [line(f"{n:02}", "same") for n in range(12)]
    before = await kept(bench)
    first = await bench.batch(asked[:4])
    await bench.work()
    async with bench.rooms.db.read() as session:
        of_a_part = (await session.get_one(File, str((await bench.get(first)).output_file_id))).bytes
        first_input = (await session.get_one(File, first.input_file_id)).bytes
    assert await kept(bench) == before + first_input + of_a_part
    batch = await bench.batch(asked)
    limit = await kept(bench) + 3 * of_a_part - 1
    await limited(bench, max_bytes=limit)
    await bench.work()
    done = await bench.get(batch)
    assert (done.status, done.done, done.completed, done.failed) == ("failed", 8, 8, 0)
    assert done.errors is not None
    [fault] = done.errors
    assert (fault["code"], fault["line"]) == ("quota_exceeded", None)
    assert "'max_bytes'" in fault["message"]
    assert [each["custom_id"] for each in await bench.answered(done.output_file_id)] == [f"{n:02}" for n in range(8)]
    assert await kept(bench) == limit + 1 - of_a_part
    await parts.tidy(bench.rooms)
    assert list(bench.rooms.blobs.list(batch_prefix(batch))) == []
    async with bench.rooms.db.read() as session:
        told = (await session.execute(select(col(Delivery.type)).order_by(col(Delivery.created_at)))).scalars().all()
        files = set((await session.execute(select(col(File.blob_key)))).scalars())
    assert told == ["batch.completed", "batch.failed"]
    assert {blob.key for blob in bench.rooms.blobs.list(f"projects/{bench.project_id}/files")} == files


async def test_answers_count_while_their_batch_goes_on(bench: Bench, small_parts: None) -> None:
    batch = await bench.batch([line(f"r{n}", "hang" if n == 4 else "hi") for n in range(5)])
    before, working = await kept(bench), asyncio.create_task(bench.work())
    while (await bench.get(batch)).done < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await kept(bench) - before == (await bench.get(batch)).output_bytes > 0
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_project_s_queue_has_an_end(bench: Bench) -> None:
    async with bench.rooms.db.write() as session:
        other = (await keys.create_project(session, "other")).id
    long = await bench.batch([line("a")], status="in_progress", total=9, done=6, lease_until=time.time() + 3600)
    await bench.batch([line("a")], status="in_progress", total=9, lease_until=time.time() + 3600, project_id=other)
    await limited(bench, max_queued_requests=5)
    for count, status in ((3, "failed"), (2, "completed")):
        batch = await bench.batch([line(f"r{n}") for n in range(count)])
        await bench.work()
        done = await bench.get(batch)
        assert done.status == status
        if status == "failed":
            assert done.errors is not None
            assert (done.errors[0]["code"], done.total, done.output_file_id) == ("request_limit_exceeded", 0, None)
            assert "5 unanswered requests in batches and has 3; the 3 of this file" in done.errors[0]["message"]
    await bench.set(long, status="completed")
    batch = await bench.batch([line(f"r{n}") for n in range(5)])
    await bench.work()
    assert (await bench.get(batch)).status == "completed"


async def test_projects_take_turns(bench: Bench) -> None:
    async with bench.rooms.db.write() as session:
        other = (await keys.create_project(session, "other")).id
    greedy = [await bench.batch([line("a")], created_at=float(n)) for n in range(3)]
    modest = await bench.batch([line("a")], created_at=9.0, project_id=other)
    order = [found.batch.id for found in [await bench.claim() for _ in range(4)] if found]
    assert order == [greedy[0].id, modest.id, greedy[1].id, greedy[2].id]
    assert await bench.claim() is None


async def test_a_long_batch_makes_room_for_one_that_waits(
    bench: Bench, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.batches.worker.SLICE_SECONDS", 0.0)
    long = await bench.batch([line(f"r{n}") for n in range(20)], created_at=1.0)
    short = await bench.batch([line("a")], created_at=2.0)
    await bench.work()
    assert (await bench.get(long)).done == 4
    await bench.work()
    assert (await bench.get(short)).status == "completed"
    await bench.work()
    assert ((await bench.get(long)).status, (await bench.get(long)).done) == ("completed", 20)


async def test_counts_are_live(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_SECONDS", 0.1)
    batch = await bench.batch([line("a"), line("b"), line("c", "hang")])
    working = asyncio.create_task(bench.work())
    while (await bench.get(batch)).completed < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert (await bench.get(batch)).total == 3
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
