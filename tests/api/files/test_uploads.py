"""Uploads in parts, through the official client and from several threads."""

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
from api.services.upload_assembly import assemble_upload
from jobs.resources import open_resources
from storage.access.keys import authenticate
from storage.access.limits import Limits
from storage.ids import new_id
from storage.tables import File, Upload, UploadPart
from tests.api.files.test_files import limit_bytes
from tests.api.stack import Stack, run_stack
from tests.api.test_errors import assert_error

pytestmark = pytest.mark.integration

DATA = bytes(random.Random(1).randbytes(1000))
MB = 2**20


def _create_upload(stack: Stack, size: int, **options: Any) -> OpenAIUpload:
    return stack.get_client().uploads.create(
        bytes=size, filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune", **options
    )


def _add_part(stack: Stack, upload: OpenAIUpload, data: bytes) -> str:
    return stack.get_client().uploads.parts.create(upload.id, data=data).id


def _complete(stack: Stack, upload_id: str, **body: Any) -> httpx.Response:
    with stack.open_http() as http:
        return http.post(f"/v1/uploads/{upload_id}/complete", json=body)


def _list_blobs(stack: Stack, kind: str) -> list[str]:
    return [blob.key for blob in stack.blobs.list(f"projects/{stack.tenant.project_id}/{kind}")]


def _expire(stack: Stack, upload_id: str) -> None:
    async def set_expired(session: AsyncSession) -> None:
        await session.execute(update(Upload).where(col(Upload.id) == upload_id).values(expires_at=1.0))

    stack.run_in_session(set_expired)


def _count_rows(stack: Stack, table: Any, *conditions: Any) -> int:
    async def count(session: AsyncSession) -> int:
        return (await session.execute(select(func.count()).select_from(table).where(*conditions))).scalar_one()

    return stack.run_in_session(count)


def test_round_trip(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    upload = _create_upload(stack, len(DATA))
    assert (upload.status, upload.bytes, upload.file) == ("pending", len(DATA), None)
    assert upload.expires_at == upload.created_at + 3600
    first, second = _add_part(stack, upload, DATA[:10]), _add_part(stack, upload, DATA[10:])
    completed = client.uploads.complete(upload.id, part_ids=[first, second])
    assert completed.status == "completed"
    assert completed.file is not None
    assert (completed.file.filename, completed.file.bytes, completed.file.purpose) == (
        "rows.jsonl",
        len(DATA),
        "fine-tune",
    )
    assert client.files.retrieve(completed.file.id) == completed.file
    assert client.files.content(completed.file.id).read() == DATA
    assert client.files.wait_for_processing(completed.file.id, max_wait_seconds=1).status == "processed"
    assert _list_blobs(stack, "uploads") == []
    assert _count_rows(stack, UploadPart, col(UploadPart.upload_id) == upload.id) == 0


@pytest.mark.parametrize("md5", [None, hashlib.md5(DATA).hexdigest(), hashlib.md5(DATA).hexdigest().upper()])
def test_the_clients_helper_with_bytes(stack: Stack, md5: str | None) -> None:
    completed = stack.get_client().uploads.upload_file_chunked(
        file=DATA,
        filename="ü.bin",
        bytes=len(DATA),
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=300,
        **({"md5": md5} if md5 else {}),
    )
    assert completed.file is not None
    assert completed.file.filename == "ü.bin"
    assert stack.get_client().files.content(completed.file.id).read() == DATA


def test_the_clients_helper_with_a_path(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    completed = stack.get_client().uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=999
    )
    assert completed.file is not None
    assert stack.get_client().files.content(completed.file.id).read() == DATA


def test_the_order_is_that_of_the_completion(stack: Stack) -> None:
    """Sixteen parts arrive from eight threads in any order."""
    upload = _create_upload(stack, 16 * MB)
    parts = [bytes([number]) * MB for number in range(16)]
    shuffled = random.Random(2).sample(range(16), 16)
    with ThreadPoolExecutor(8) as pool:
        ids = dict(zip(shuffled, pool.map(lambda n: _add_part(stack, upload, parts[n]), shuffled), strict=True))
    md5 = hashlib.md5(b"".join(parts)).hexdigest()
    ordered = [ids[number] for number in range(16)]
    rejected = _complete(stack, upload.id, part_ids=ordered[::-1], md5=md5)
    assert assert_error(rejected, 400)["param"] == "md5"
    completed = stack.get_client().uploads.complete(upload.id, part_ids=ordered, md5=md5)
    assert completed.file is not None
    assert stack.get_client().files.content(completed.file.id).read() == b"".join(parts)


def test_an_empty_file_needs_no_part(stack: Stack) -> None:
    completed = stack.get_client().uploads.complete(_create_upload(stack, 0).id, part_ids=[])
    assert completed.file is not None
    assert stack.get_client().files.content(completed.file.id).read() == b""


def test_an_omitted_part_is_deleted(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)
    _add_part(stack, upload, b"abc")
    again = _add_part(stack, upload, b"abc")
    assert stack.get_client().uploads.complete(upload.id, part_ids=[again]).status == "completed"
    assert _list_blobs(stack, "uploads") == []


@pytest.mark.parametrize(
    ("purpose", "seconds", "expected"),
    [("user_data", 3600, 3600), ("batch", None, 2_592_000), ("user_data", None, None)],
)
def test_the_file_expires_after_its_creation(
    stack: Stack, purpose: Any, seconds: int | None, expected: int | None
) -> None:
    client = stack.get_client()
    options: Any = {"expires_after": {"anchor": "created_at", "seconds": seconds}} if seconds else {}
    upload = client.uploads.create(bytes=0, filename="a", mime_type="b", purpose=purpose, **options)
    file = client.uploads.complete(upload.id, part_ids=[]).file
    assert file is not None
    assert file.expires_at == (file.created_at + expected if expected else None)


def test_completing_again_returns_the_same_file(stack: Stack) -> None:
    client = stack.get_client()
    upload = _create_upload(stack, 3)
    part = _add_part(stack, upload, b"abc")
    first = client.uploads.complete(upload.id, part_ids=[part])
    assert client.uploads.complete(upload.id, part_ids=[part]) == first
    assert first.file is not None
    client.files.delete(first.file.id)
    again = client.uploads.complete(upload.id, part_ids=[part])
    assert (again.status, again.file) == ("completed", None)


def test_concurrent_completions_create_one_file(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 8 * MB)
    ids = [_add_part(stack, upload, bytes([number]) * MB) for number in range(8)]
    barrier = threading.Barrier(6)

    def complete(_: int) -> httpx.Response:
        barrier.wait()
        return _complete(stack, upload.id, part_ids=ids)

    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(complete, range(6)))
    assert {response.status_code for response in responses} == {200}, responses
    [file_id] = {response.json()["file"]["id"] for response in responses}
    assert _count_rows(stack, File, col(File.project_id) == stack.tenant.project_id) == 1
    assert _list_blobs(stack, "files") == [f"projects/{stack.tenant.project_id}/files/{file_id}"]
    assert _list_blobs(stack, "uploads") == []


def test_completing_and_cancelling_do_not_both_happen(stack: Stack) -> None:
    stack = stack.with_new_project()
    outcomes = set()
    with stack.open_http() as http, ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            upload = _create_upload(stack, 2 * MB)
            part = _add_part(stack, upload, b"x" * 2 * MB)
            completed = pool.submit(_complete, stack, upload.id, part_ids=[part])
            cancelled = pool.submit(http.post, f"/v1/uploads/{upload.id}/cancel")
            outcomes.add((completed.result().status_code, cancelled.result().status_code))
    assert outcomes <= {(200, 400), (400, 200)}
    assert _list_blobs(stack, "uploads") == []
    assert len(_list_blobs(stack, "files")) == _count_rows(stack, File, col(File.project_id) == stack.tenant.project_id)


def test_cancelling_removes_the_parts_and_ends_it(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    upload = _create_upload(stack, 3)
    part = _add_part(stack, upload, b"abc")
    assert len(_list_blobs(stack, "uploads")) == 1
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert _list_blobs(stack, "uploads") == []
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        _add_part(stack, upload, b"abc")
    assert assert_error(_complete(stack, upload.id, part_ids=[part]), 400)["code"] == "invalid_state"


def test_a_part_in_flight_when_the_upload_ends_is_refused(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)

    def iter_slowly() -> Iterator[bytes]:
        yield b'--edge\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\na'
        # By then the server has read the upload's row, which is still pending.
        time.sleep(0.5)
        stack.get_client().uploads.cancel(upload.id)
        yield b"bc\r\n--edge--\r\n"

    with stack.open_http() as http:
        headers = {"content-type": "multipart/form-data; boundary=edge"}
        response = http.post(f"/v1/uploads/{upload.id}/parts", content=iter_slowly(), headers=headers)
    assert assert_error(response, 400)["code"] == "invalid_state"
    assert _list_blobs(stack, "uploads") == []


def test_a_completed_upload_takes_nothing_more(stack: Stack) -> None:
    upload = _create_upload(stack, 0)
    stack.get_client().uploads.complete(upload.id, part_ids=[])
    with pytest.raises(openai.BadRequestError, match="completed"):
        _add_part(stack, upload, b"abc")
    with pytest.raises(openai.BadRequestError, match="completed"):
        stack.get_client().uploads.cancel(upload.id)


def test_an_expired_upload_is_void_immediately(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)
    part = _add_part(stack, upload, b"abc")
    _expire(stack, upload.id)
    with pytest.raises(openai.BadRequestError, match="expired"):
        _add_part(stack, upload, b"abc")
    with pytest.raises(openai.BadRequestError, match="expired"):
        stack.get_client().uploads.cancel(upload.id)
    assert "expired" in assert_error(_complete(stack, upload.id, part_ids=[part]), 400)["message"]
    assert _list_blobs(stack, "files") == []


def test_an_upload_that_expires_during_assembly_needs_free_space(stack: Stack) -> None:
    """Another upload may use its quota by then. Without free quota, the upload remains unchanged
    and no bytes remain.
    """
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)
    request = UploadCompleteIn(part_ids=[_add_part(stack, upload, b"abc")])
    _expire(stack, upload.id)

    async def complete(limit: int) -> None:
        async with open_resources(stack.settings) as resources:
            async with resources.db.read() as session:
                row = await session.get_one(Upload, upload.id)
                principal = await authenticate(session, stack.tenant.key)
            assert principal
            await assemble_upload(resources, replace(principal, limits=Limits(max_bytes=limit)), row, request)

    with pytest.raises(InvalidRequest, match="3 more do not fit"):
        asyncio.run(complete(2))
    assert _list_blobs(stack, "files") == []
    asyncio.run(complete(3))
    assert len(_list_blobs(stack, "files")) == 1


def test_another_projects_upload_looks_unknown(stack: Stack) -> None:
    foreign_upload = _create_upload(stack.as_other_tenant(), 3)
    foreign_part = _add_part(stack.as_other_tenant(), foreign_upload, b"abc")
    form = {"files": {"data": ("part", b"abc")}}
    requests: list[tuple[str, Any]] = [
        ("parts", form),
        ("complete", {"json": {"part_ids": [foreign_part]}}),
        ("cancel", {}),
    ]
    with stack.open_http() as http:
        for verb, options in requests:
            responses = [
                http.post(f"/v1/uploads/{upload_id}/{verb}", **options)
                for upload_id in (foreign_upload.id, "upload_none")
            ]
            assert assert_error(responses[0], 404)["param"] == "upload_id"
            assert responses[0].content == responses[1].content
    own_upload = _create_upload(stack, 3)
    responses = [_complete(stack, own_upload.id, part_ids=[part]) for part in (foreign_part, "part_none")]
    assert assert_error(responses[0], 400)["param"] == "part_ids.0"
    assert responses[0].content == responses[1].content
    assert (
        stack.as_other_tenant().get_client().uploads.complete(foreign_upload.id, part_ids=[foreign_part]).status
        == "completed"
    )


def test_invalid_completions(stack: Stack) -> None:
    upload, other = _create_upload(stack, 4), _create_upload(stack, 2)
    ab, cd, ef = _add_part(stack, upload, b"ab"), _add_part(stack, upload, b"cd"), _add_part(stack, other, b"ef")
    invalid_bodies: list[tuple[dict[str, Any], str]] = [
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
    for body, param in invalid_bodies:
        assert assert_error(_complete(stack, upload.id, **body), 400)["param"] == param, body
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
        ("color", "red"),
    ],
)
def test_invalid_uploads(stack: Stack, field: str, value: Any) -> None:
    body = {"bytes": 1, "filename": "a", "mime_type": "b", "purpose": "user_data", field.partition(".")[0]: value}
    with stack.open_http() as http:
        assert assert_error(http.post("/v1/uploads", json=body), 400)["param"] == field


def test_invalid_parts(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 10)
    with stack.open_http() as http:
        path = f"/v1/uploads/{upload.id}/parts"
        assert assert_error(http.post(path, files={"file": ("a", b"x")}), 400)["param"] == "data"
        assert (
            assert_error(http.post(path, files={"data": ("a", b"x")}, data={"color": "red"}), 400)["param"] == "color"
        )
        assert_error(http.post(path, json={"data": "x"}), 400)
        # The capacity is twice the declared size, so that every byte may arrive twice.
        assert http.post(path, files={"data": ("a", b"x" * 20)}).status_code == 200
        assert assert_error(http.post(path, files={"data": ("a", b"x")}), 400)["code"] == "upload_too_large"
    assert len(_list_blobs(stack, "uploads")) == 1


@pytest.mark.parametrize(("size", "status"), [(64 * MB, 200), (64 * MB + 1, 413)])
def test_a_part_has_at_most_64_mb(stack: Stack, size: int, status: int) -> None:
    """This exceeds the limit of a JSON body and may exceed the operator's limit of a file."""
    stack = stack.with_new_project()
    upload = _create_upload(stack, 100 * MB)
    with stack.open_http() as http:
        response = http.post(f"/v1/uploads/{upload.id}/parts", files={"data": ("a", b"x" * size)})
    assert response.status_code == status, response.text
    assert len(_list_blobs(stack, "uploads")) == (status == 200)
    stack.get_client().uploads.cancel(upload.id)


def test_a_large_part_for_an_unknown_upload_gets_a_response(stack: Stack) -> None:
    with stack.open_http() as http:
        assert_error(http.post("/v1/uploads/upload_none/parts", files={"data": ("a", b"x" * 32 * MB)}), 404)
    with pytest.raises(openai.NotFoundError):
        stack.get_client().uploads.parts.create("upload_none", data=b"x" * 32 * MB)


def test_lost_bytes_are_a_500_and_the_upload_stays(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)
    part = _add_part(stack, upload, b"abc")
    [key] = _list_blobs(stack, "uploads")
    stack.blobs.delete(key)
    assert_error(_complete(stack, upload.id, part_ids=[part]), 500)
    again = _add_part(stack, upload, b"abc")
    assert _complete(stack, upload.id, part_ids=[again]).status_code == 200


def test_damaged_parts_make_no_file(stack: Stack) -> None:
    stack = stack.with_new_project()
    upload = _create_upload(stack, 3)
    part = _add_part(stack, upload, b"abc")
    [key] = _list_blobs(stack, "uploads")
    stack.blobs.put_bytes(key, b"abd")
    assert_error(_complete(stack, upload.id, part_ids=[part]), 500)
    assert _list_blobs(stack, "files") == []


def test_a_pending_upload_counts_its_declared_size(stack: Stack) -> None:
    stack = stack.with_new_project()
    limit_bytes(stack, 100)
    upload = _create_upload(stack, 60)
    with pytest.raises(openai.BadRequestError, match="100 bytes"):
        _create_upload(stack, 41)
    part = _add_part(stack, upload, b"x" * 60)
    assert _complete(stack, upload.id, part_ids=[part]).status_code == 200
    other = _create_upload(stack, 40)
    with pytest.raises(openai.BadRequestError, match="100 bytes"):
        _create_upload(stack, 1)
    stack.get_client().uploads.cancel(other.id)
    assert _create_upload(stack, 40).status == "pending"


def test_an_upload_over_the_setting(tmp_path: Path) -> None:
    with run_stack(tmp_path, max_assembled_bytes=5) as small:
        assert _create_upload(small, 5).status == "pending"
        with pytest.raises(openai.BadRequestError, match="at most 5 bytes"):
            _create_upload(small, 6)


def test_in_a_bucket(s3_url: str, tmp_path: Path) -> None:
    """Parts are objects in the bucket. A multipart upload assembles them into one object."""
    with run_stack(tmp_path, blob_url=s3_url) as stack:
        parts = [bytes([number]) * 9 * MB for number in range(2)]
        upload = _create_upload(stack, 18 * MB)
        ids = [_add_part(stack, upload, part) for part in parts]
        rejected = _complete(stack, upload.id, part_ids=ids[::-1], md5=hashlib.md5(b"".join(parts)).hexdigest())
        assert assert_error(rejected, 400)["param"] == "md5"
        assert _list_blobs(stack, "files") == []
        completed = stack.get_client().uploads.complete(upload.id, part_ids=ids)
        assert completed.file is not None
        assert stack.get_client().files.content(completed.file.id).read() == b"".join(parts)
        assert _list_blobs(stack, "uploads") == []


def test_upload_ids_are_ours(stack: Stack) -> None:
    assert _create_upload(stack, 0).id.startswith("upload_")
    assert new_id("part").startswith("part_")
