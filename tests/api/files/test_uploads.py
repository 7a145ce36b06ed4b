"""Files that come in parts, through the official client and from many threads."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Upload as OpenAIUpload
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import InvalidRequest
from api.schemas.uploads import UploadCompleteIn
from api.services.upload_assembly import assemble
from jobs.resources import open_resources
from storage.access.keys import authenticate
from storage.access.limits import Limits
from storage.ids import new_id
from storage.tables import File, Upload, UploadPart
from tests.api.files.test_files import limit_bytes
from tests.api.stack import Stack, running_stack
from tests.api.test_errors import error_of

DATA = bytes(random.Random(1).randbytes(1000))
MB = 2**20


def _begin(stack: Stack, size: int, **more: Any) -> OpenAIUpload:
    return stack.client().uploads.create(
        bytes=size, filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune", **more
    )


def _part(stack: Stack, upload: OpenAIUpload, data: bytes) -> str:
    return stack.client().uploads.parts.create(upload.id, data=data).id


def _complete(stack: Stack, upload_id: str, **body: Any) -> httpx.Response:
    with stack.http() as http:
        return http.post(f"/v1/uploads/{upload_id}/complete", json=body)


def _blobs(stack: Stack, kind: str) -> list[str]:
    return [blob.key for blob in stack.blobs.list(f"projects/{stack.ours.project_id}/{kind}")]


def _expire(stack: Stack, upload_id: str) -> None:
    async def late(session: AsyncSession) -> None:
        await session.execute(update(Upload).where(col(Upload.id) == upload_id).values(expires_at=1.0))

    stack.session(late)


def _count(stack: Stack, table: Any, *conditions: Any) -> int:
    async def count(session: AsyncSession) -> int:
        return (await session.execute(select(func.count()).select_from(table).where(*conditions))).scalar_one()

    return stack.session(count)


def test_round_trip(stack: Stack) -> None:
    stack = stack.fresh()
    client = stack.client()
    upload = _begin(stack, len(DATA))
    assert (upload.status, upload.bytes, upload.file) == ("pending", len(DATA), None)
    assert upload.expires_at == upload.created_at + 3600
    first, second = _part(stack, upload, DATA[:10]), _part(stack, upload, DATA[10:])
    done = client.uploads.complete(upload.id, part_ids=[first, second])
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.bytes, done.file.purpose) == ("rows.jsonl", len(DATA), "fine-tune")
    assert client.files.retrieve(done.file.id) == done.file
    assert client.files.content(done.file.id).read() == DATA
    assert client.files.wait_for_processing(done.file.id, max_wait_seconds=1).status == "processed"
    assert _blobs(stack, "uploads") == []
    assert _count(stack, UploadPart, col(UploadPart.upload_id) == upload.id) == 0


@pytest.mark.parametrize("md5", [None, hashlib.md5(DATA).hexdigest(), hashlib.md5(DATA).hexdigest().upper()])
def test_the_clients_helper_with_bytes(stack: Stack, md5: str | None) -> None:
    done = stack.client().uploads.upload_file_chunked(
        file=DATA,
        filename="ü.bin",
        bytes=len(DATA),
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=300,
        **({"md5": md5} if md5 else {}),
    )
    assert done.file is not None
    assert done.file.filename == "ü.bin"
    assert stack.client().files.content(done.file.id).read() == DATA


def test_the_clients_helper_with_a_path(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    done = stack.client().uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=999
    )
    assert done.file is not None
    assert stack.client().files.content(done.file.id).read() == DATA


def test_the_order_is_the_one_of_completing(stack: Stack) -> None:
    """Sixteen parts from eight threads, whenever each arrives."""
    upload = _begin(stack, 16 * MB)
    parts = [bytes([number]) * MB for number in range(16)]
    shuffled = random.Random(2).sample(range(16), 16)
    with ThreadPoolExecutor(8) as pool:
        ids = dict(zip(shuffled, pool.map(lambda n: _part(stack, upload, parts[n]), shuffled), strict=True))
    whole = hashlib.md5(b"".join(parts)).hexdigest()
    ordered = [ids[number] for number in range(16)]
    wrong = _complete(stack, upload.id, part_ids=ordered[::-1], md5=whole)
    assert error_of(wrong, 400)["param"] == "md5"
    done = stack.client().uploads.complete(upload.id, part_ids=ordered, md5=whole)
    assert done.file is not None
    assert stack.client().files.content(done.file.id).read() == b"".join(parts)


def test_an_empty_file_needs_no_part(stack: Stack) -> None:
    done = stack.client().uploads.complete(_begin(stack, 0).id, part_ids=[])
    assert done.file is not None
    assert stack.client().files.content(done.file.id).read() == b""


def test_a_part_left_out_goes(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 3)
    _part(stack, upload, b"abc")
    again = _part(stack, upload, b"abc")
    assert stack.client().uploads.complete(upload.id, part_ids=[again]).status == "completed"
    assert _blobs(stack, "uploads") == []


@pytest.mark.parametrize(
    ("purpose", "asked", "life"), [("user_data", 3600, 3600), ("batch", None, 2_592_000), ("user_data", None, None)]
)
def test_the_file_expires_after_it_is_made(stack: Stack, purpose: Any, asked: int | None, life: int | None) -> None:
    client = stack.client()
    more: Any = {"expires_after": {"anchor": "created_at", "seconds": asked}} if asked else {}
    upload = client.uploads.create(bytes=0, filename="a", mime_type="b", purpose=purpose, **more)
    file = client.uploads.complete(upload.id, part_ids=[]).file
    assert file is not None
    assert file.expires_at == (file.created_at + life if life else None)


def test_completing_again_answers_the_same_file(stack: Stack) -> None:
    client = stack.client()
    upload = _begin(stack, 3)
    part = _part(stack, upload, b"abc")
    first = client.uploads.complete(upload.id, part_ids=[part])
    assert client.uploads.complete(upload.id, part_ids=[part]) == first
    assert first.file is not None
    client.files.delete(first.file.id)
    again = client.uploads.complete(upload.id, part_ids=[part])
    assert (again.status, again.file) == ("completed", None)


def test_many_completing_at_once_make_one_file(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 8 * MB)
    ids = [_part(stack, upload, bytes([number]) * MB) for number in range(8)]
    together = threading.Barrier(6)

    def complete(_: int) -> httpx.Response:
        together.wait()
        return _complete(stack, upload.id, part_ids=ids)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(complete, range(6)))
    assert {answer.status_code for answer in answers} == {200}, answers
    [file_id] = {answer.json()["file"]["id"] for answer in answers}
    assert _count(stack, File, col(File.project_id) == stack.ours.project_id) == 1
    assert _blobs(stack, "files") == [f"projects/{stack.ours.project_id}/files/{file_id}"]
    assert _blobs(stack, "uploads") == []


def test_completing_and_cancelling_do_not_both_happen(stack: Stack) -> None:
    stack = stack.fresh()
    outcomes = set()
    with stack.http() as http, ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            upload = _begin(stack, 2 * MB)
            part = _part(stack, upload, b"x" * 2 * MB)
            completed = pool.submit(_complete, stack, upload.id, part_ids=[part])
            cancelled = pool.submit(http.post, f"/v1/uploads/{upload.id}/cancel")
            outcomes.add((completed.result().status_code, cancelled.result().status_code))
    assert outcomes <= {(200, 400), (400, 200)}
    assert _blobs(stack, "uploads") == []
    assert len(_blobs(stack, "files")) == _count(stack, File, col(File.project_id) == stack.ours.project_id)


def test_cancelling_removes_the_parts_and_ends_it(stack: Stack) -> None:
    stack = stack.fresh()
    client = stack.client()
    upload = _begin(stack, 3)
    part = _part(stack, upload, b"abc")
    assert len(_blobs(stack, "uploads")) == 1
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert _blobs(stack, "uploads") == []
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        _part(stack, upload, b"abc")
    assert error_of(_complete(stack, upload.id, part_ids=[part]), 400)["code"] == "invalid_state"


def test_a_part_that_is_on_its_way_when_the_upload_ends_is_refused(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 3)

    def slowly() -> Iterator[bytes]:
        yield b'--edge\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\na'
        # The server has looked at the upload by then, and found it pending.
        time.sleep(0.5)
        stack.client().uploads.cancel(upload.id)
        yield b"bc\r\n--edge--\r\n"

    with stack.http() as http:
        kind = {"content-type": "multipart/form-data; boundary=edge"}
        answer = http.post(f"/v1/uploads/{upload.id}/parts", content=slowly(), headers=kind)
    assert error_of(answer, 400)["code"] == "invalid_state"
    assert _blobs(stack, "uploads") == []


def test_a_completed_upload_takes_nothing_more(stack: Stack) -> None:
    upload = _begin(stack, 0)
    stack.client().uploads.complete(upload.id, part_ids=[])
    with pytest.raises(openai.BadRequestError, match="completed"):
        _part(stack, upload, b"abc")
    with pytest.raises(openai.BadRequestError, match="completed"):
        stack.client().uploads.cancel(upload.id)


def test_an_expired_upload_is_void_at_once(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 3)
    part = _part(stack, upload, b"abc")
    _expire(stack, upload.id)
    with pytest.raises(openai.BadRequestError, match="expired"):
        _part(stack, upload, b"abc")
    with pytest.raises(openai.BadRequestError, match="expired"):
        stack.client().uploads.cancel(upload.id)
    assert "expired" in error_of(_complete(stack, upload.id, part_ids=[part]), 400)["message"]
    assert _blobs(stack, "files") == []


def test_an_upload_that_expires_while_it_is_put_together_needs_room(stack: Stack) -> None:
    """By then another may have what it declared. Without room the upload stays as it is and no bytes are left."""
    stack = stack.fresh()
    upload = _begin(stack, 3)
    asked = UploadCompleteIn(part_ids=[_part(stack, upload, b"abc")])
    _expire(stack, upload.id)

    async def complete(limit: int) -> None:
        async with open_resources(stack.settings) as rooms:
            async with rooms.db.read() as session:
                row = await session.get_one(Upload, upload.id)
                principal = await authenticate(session, stack.ours.key)
            assert principal
            await assemble(rooms, replace(principal, limits=Limits(max_bytes=limit)), row, asked)

    with pytest.raises(InvalidRequest, match="3 more do not fit"):
        asyncio.run(complete(2))
    assert _blobs(stack, "files") == []
    asyncio.run(complete(3))
    assert len(_blobs(stack, "files")) == 1


def test_another_projects_upload_is_like_none(stack: Stack) -> None:
    theirs = _begin(stack.as_theirs(), 3)
    foreign = _part(stack.as_theirs(), theirs, b"abc")
    form = {"files": {"data": ("part", b"abc")}}
    requests: list[tuple[str, Any]] = [("parts", form), ("complete", {"json": {"part_ids": [foreign]}}), ("cancel", {})]
    with stack.http() as http:
        for verb, sent in requests:
            answers = [http.post(f"/v1/uploads/{name}/{verb}", **sent) for name in (theirs.id, "upload_none")]
            assert error_of(answers[0], 404)["param"] == "upload_id"
            assert answers[0].content == answers[1].content
    mine = _begin(stack, 3)
    answers = [_complete(stack, mine.id, part_ids=[part]) for part in (foreign, "part_none")]
    assert error_of(answers[0], 400)["param"] == "part_ids.0"
    assert answers[0].content == answers[1].content
    assert stack.as_theirs().client().uploads.complete(theirs.id, part_ids=[foreign]).status == "completed"


def test_what_completing_refuses(stack: Stack) -> None:
    upload, other = _begin(stack, 4), _begin(stack, 2)
    ab, cd, ef = _part(stack, upload, b"ab"), _part(stack, upload, b"cd"), _part(stack, other, b"ef")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"part_ids": [ab, ab]}, "part_ids.1"),
        ({"part_ids": [ab, ef]}, "part_ids.1"),
        ({"part_ids": [ab]}, "part_ids"),
        ({"part_ids": []}, "part_ids"),
        ({"part_ids": [ab, cd], "md5": hashlib.md5(b"cdab").hexdigest()}, "md5"),
        ({"part_ids": [ab, cd], "md5": "nonsense"}, "md5"),
        ({"part_ids": [ab, cd], "sha256": "x"}, "sha256"),
        ({"part_ids": "ab"}, "part_ids"),
        ({"part_ids": [ab] * 10_001}, "part_ids"),
        ({}, "part_ids"),
    ]
    for body, param in refused:
        assert error_of(_complete(stack, upload.id, **body), 400)["param"] == param, body
    assert _complete(stack, upload.id, part_ids=[cd, ab]).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytes", -1),
        ("bytes", 8 * 2**30 + 1),
        ("bytes", 2**54),
        ("bytes", "1"),
        ("bytes", 1.5),
        ("filename", ""),
        ("filename", "a" * 256),
        ("filename", "a\nb"),
        ("mime_type", ""),
        ("purpose", "fine-tune-results"),
        ("expires_after.seconds", {"anchor": "created_at", "seconds": 3599}),
        ("expires_after.anchor", {"anchor": "now", "seconds": 3600}),
        ("colour", "red"),
    ],
)
def test_what_creating_refuses(stack: Stack, field: str, value: Any) -> None:
    body = {"bytes": 1, "filename": "a", "mime_type": "b", "purpose": "user_data", field.partition(".")[0]: value}
    with stack.http() as http:
        assert error_of(http.post("/v1/uploads", json=body), 400)["param"] == field


def test_what_a_part_may_be(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 10)
    with stack.http() as http:
        path = f"/v1/uploads/{upload.id}/parts"
        assert error_of(http.post(path, files={"file": ("a", b"x")}), 400)["param"] == "data"
        assert error_of(http.post(path, files={"data": ("a", b"x")}, data={"colour": "red"}), 400)["param"] == "colour"
        error_of(http.post(path, json={"data": "x"}), 400)
        # Room for every byte to come twice, and no more.
        assert http.post(path, files={"data": ("a", b"x" * 20)}).status_code == 200
        assert error_of(http.post(path, files={"data": ("a", b"x")}), 400)["code"] == "upload_too_large"
    assert len(_blobs(stack, "uploads")) == 1


@pytest.mark.parametrize(("size", "status"), [(64 * MB, 200), (64 * MB + 1, 413)])
def test_a_part_has_at_most_64_mb(stack: Stack, size: int, status: int) -> None:
    """More than a JSON body may have, and than a file where the operator allows less."""
    stack = stack.fresh()
    upload = _begin(stack, 100 * MB)
    with stack.http() as http:
        answer = http.post(f"/v1/uploads/{upload.id}/parts", files={"data": ("a", b"x" * size)})
    assert answer.status_code == status, answer.text
    assert len(_blobs(stack, "uploads")) == (status == 200)
    stack.client().uploads.cancel(upload.id)


def test_a_large_part_for_no_upload_gets_its_answer(stack: Stack) -> None:
    with stack.http() as http:
        error_of(http.post("/v1/uploads/upload_none/parts", files={"data": ("a", b"x" * 32 * MB)}), 404)
    with pytest.raises(openai.NotFoundError):
        stack.client().uploads.parts.create("upload_none", data=b"x" * 32 * MB)


def test_lost_bytes_are_a_500_and_the_upload_stays(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 3)
    part = _part(stack, upload, b"abc")
    [key] = _blobs(stack, "uploads")
    stack.blobs.delete(key)
    error_of(_complete(stack, upload.id, part_ids=[part]), 500)
    again = _part(stack, upload, b"abc")
    assert _complete(stack, upload.id, part_ids=[again]).status_code == 200


def test_damaged_parts_make_no_file(stack: Stack) -> None:
    stack = stack.fresh()
    upload = _begin(stack, 3)
    part = _part(stack, upload, b"abc")
    [key] = _blobs(stack, "uploads")
    stack.blobs.put_bytes(key, b"abd")
    error_of(_complete(stack, upload.id, part_ids=[part]), 500)
    assert _blobs(stack, "files") == []


def test_an_open_upload_counts_as_what_it_declares(stack: Stack) -> None:
    stack = stack.fresh()
    limit_bytes(stack, 100)
    upload = _begin(stack, 60)
    with pytest.raises(openai.BadRequestError, match="100 bytes"):
        _begin(stack, 41)
    part = _part(stack, upload, b"x" * 60)
    assert _complete(stack, upload.id, part_ids=[part]).status_code == 200
    other = _begin(stack, 40)
    with pytest.raises(openai.BadRequestError, match="100 bytes"):
        _begin(stack, 1)
    stack.client().uploads.cancel(other.id)
    assert _begin(stack, 40).status == "pending"


def test_an_upload_over_the_setting(tmp_path: Path) -> None:
    with running_stack(tmp_path, max_assembled_bytes=5) as small:
        assert _begin(small, 5).status == "pending"
        with pytest.raises(openai.BadRequestError, match="at most 5 bytes"):
            _begin(small, 6)


def test_in_a_bucket(s3_url: str, tmp_path: Path) -> None:
    """Parts in objects of their own, put together into one that itself goes up in parts."""
    with running_stack(tmp_path, blob_url=s3_url) as stack:
        parts = [bytes([number]) * 9 * MB for number in range(2)]
        upload = _begin(stack, 18 * MB)
        ids = [_part(stack, upload, part) for part in parts]
        refused = _complete(stack, upload.id, part_ids=ids[::-1], md5=hashlib.md5(b"".join(parts)).hexdigest())
        assert error_of(refused, 400)["param"] == "md5"
        assert _blobs(stack, "files") == []
        done = stack.client().uploads.complete(upload.id, part_ids=ids)
        assert done.file is not None
        assert stack.client().files.content(done.file.id).read() == b"".join(parts)
        assert _blobs(stack, "uploads") == []


def test_upload_ids_are_ours(stack: Stack) -> None:
    assert _begin(stack, 0).id.startswith("upload_")
    assert new_id("part").startswith("part_")
