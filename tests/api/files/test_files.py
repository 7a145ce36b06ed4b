"""Files through the official client, and forms that the multipart parser rejects."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from storage.blobs import hash_file
from storage.ids import new_id
from storage.tables import Batch, File, Project
from tests.api.stack import Stack
from tests.api.test_errors import assert_error


def build_batch(file: File, status: str) -> Batch:
    return Batch(
        id=new_id("batch"),
        project_id=file.project_id,
        created_at=time.time(),
        endpoint="/v1/completions",
        input_file_id=file.id,
        completion_window="24h",
        status=status,
        expires_at=time.time() + 86400,
    )


def limit_bytes(stack: Stack, max_bytes: int) -> None:
    async def set_limit(session: AsyncSession) -> None:
        condition = col(Project.id) == stack.tenant.project_id
        await session.execute(update(Project).where(condition).values(max_bytes=max_bytes))

    stack.run_in_session(set_limit)


ROWS = b'{"text": "Where is my card?", "label": "card"}\n'


def test_round_trip(stack: Stack) -> None:
    client = stack.get_client()
    file = client.files.create(file=("rows – ü.jsonl", ROWS), purpose="fine-tune")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(ROWS),
        "rows – ü.jsonl",
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == ROWS
    assert client.files.wait_for_processing(file.id, max_wait_seconds=1).status == "processed"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(file.id)
    assert caught.value.param == "file_id"


def test_bytes_without_a_name_are_called_upload(stack: Stack) -> None:
    file = stack.get_client().files.create(file=b"", purpose="user_data")
    assert (file.filename, file.bytes) == ("upload", 0)
    assert stack.get_client().files.content(file.id).read() == b""


def test_deleting_removes_the_bytes(stack: Stack) -> None:
    client = stack.get_client()
    file = client.files.create(file=ROWS, purpose="fine-tune")
    key = f"projects/{stack.tenant.project_id}/files/{file.id}"
    folder = Path(stack.settings.blob_url.removeprefix("file://"))
    assert (folder / key).exists()
    client.files.delete(file.id)
    assert not (folder / key).exists()


@pytest.mark.parametrize("state", ["validating_files", "queued", "running"])
@pytest.mark.parametrize("field", ["training_file", "validation_file", "general_file"])
def test_a_file_that_a_job_needs_stays(stack: Stack, field: str, state: str) -> None:
    client = stack.get_client()
    file = client.files.create(file=ROWS, purpose="fine-tune")
    job = stack.insert_job(state=state, **{field: file.id})
    with pytest.raises(openai.BadRequestError, match=job.id) as caught:
        client.files.delete(file.id)
    assert caught.value.code == "file_in_use"
    assert client.files.content(file.id).read() == ROWS


def test_a_file_of_an_ended_job_can_be_deleted(stack: Stack) -> None:
    client = stack.get_client()
    file = client.files.create(file=ROWS, purpose="fine-tune")
    stack.insert_job(state="failed", training_file=file.id)
    assert client.files.delete(file.id).deleted


@pytest.mark.parametrize(
    ("status", "deletable"), [("validating", False), ("in_progress", False), ("cancelling", False), ("completed", True)]
)
def test_a_file_that_a_batch_needs_stays(stack: Stack, status: str, deletable: bool) -> None:
    file = stack.insert_file(purpose="batch")
    stack.insert(build_batch(file, status))
    if deletable:
        assert stack.get_client().files.delete(file.id).deleted
    else:
        with pytest.raises(openai.BadRequestError, match="The batch batch_") as caught:
            stack.get_client().files.delete(file.id)
        assert caught.value.code == "file_in_use"


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"])
def test_every_purpose(stack: Stack, purpose: str) -> None:
    with stack.open_http() as http:
        file = http.post("/v1/files", data={"purpose": purpose}, files={"file": ("a", ROWS)}).json()
        assert http.get(f"/v1/files/{file['id']}").json() == file
    assert file["purpose"] == purpose
    assert file["expires_at"] == (file["created_at"] + 2_592_000 if purpose == "batch" else None)
    assert file["status_details"] is None


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
def test_expires_after(stack: Stack, seconds: int) -> None:
    file = stack.get_client().files.create(
        file=ROWS, purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
    )
    assert file.expires_at == file.created_at + seconds


def test_an_expired_file_is_missing(stack: Stack) -> None:
    stack = stack.with_new_project()
    expired, stored = stack.insert_file(expires_at=time.time() - 1), stack.insert_file(expires_at=time.time() + 60)
    client = stack.get_client()
    assert [file.id for file in client.files.list()] == [stored.id]
    with stack.open_http() as http:
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
            responses = [http.request(method, f"/v1/files/{name}{path}") for name in (expired.id, "file-none")]
            assert assert_error(responses[0], 404)["param"] == "file_id"
            assert responses[0].content == responses[1].content
        body = {"model": "starter", "training_file": expired.id}
        assert assert_error(http.post("/v1/fine_tuning/jobs", json=body), 400)["param"] == "training_file"
        assert assert_error(http.get("/v1/files", params={"after": expired.id}), 400)["param"] == "after"


def test_a_file_over_the_quota_leaves_nothing(stack: Stack) -> None:
    stack = stack.with_new_project()
    limit_bytes(stack, 100)
    client = stack.get_client()
    first = client.files.create(file=b"x" * 60, purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="100 bytes") as caught:
        client.files.create(file=b"x" * 41, purpose="user_data")
    assert caught.value.code == "quota_exceeded"
    assert len(list(stack.blobs.list(f"projects/{stack.tenant.project_id}/files"))) == 1
    assert client.files.create(file=b"x" * 40, purpose="user_data").bytes == 40
    client.files.delete(first.id)
    assert client.files.create(file=b"x" * 60, purpose="user_data").bytes == 60


def test_deleting_twice(stack: Stack) -> None:
    file = stack.insert_file()
    with stack.open_http() as http:
        assert http.delete(f"/v1/files/{file.id}").status_code == 200
        assert_error(http.delete(f"/v1/files/{file.id}"), 404)


def test_list_filters_orders_and_pages(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    ids = [stack.insert_file(purpose="vision").id for _ in range(5)]
    assert [file.id for file in client.files.list(purpose="vision", order="asc")] == ids
    assert [file.id for file in client.files.list(purpose="vision", limit=2)] == ids[::-1]
    page = client.files.list(purpose="vision", limit=2, after=ids[3])
    assert [file.id for file in page.data] == [ids[2], ids[1]]
    assert page.has_more
    with stack.open_http() as http:
        raw = http.get("/v1/files", params={"purpose": "vision", "limit": 2}).json()
        assert (raw["first_id"], raw["last_id"]) == (ids[4], ids[3])
        empty = http.get("/v1/files", params={"purpose": "assistants"}).json()
        assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(("limit", "status"), [(0, 200), (1, 200), (10_000, 200), (10_001, 400)])
def test_list_limit(stack: Stack, limit: int, status: int) -> None:
    with stack.open_http() as http:
        assert http.get("/v1/files", params={"limit": limit}).status_code == status


def test_a_cursor_need_not_fit_the_filter(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    first, other = stack.insert_file(purpose="vision"), stack.insert_file(purpose="assistants")
    assert [file.id for file in client.files.list(purpose="vision", after=other.id)] == [first.id]
    assert client.files.list(purpose="nothing", after=other.id, limit=0).data == []


def test_unknown_cursor(stack: Stack) -> None:
    foreign = stack.as_other_tenant().insert_file()
    with stack.open_http() as http:
        responses = [http.get("/v1/files", params={"after": after}) for after in ("file-none", foreign.id)]
    assert assert_error(responses[0], 400)["param"] == "after"
    assert responses[0].content == responses[1].content


def test_damaged_bytes_break_the_download(stack: Stack) -> None:
    client = stack.get_client()
    file = client.files.create(file=b"x" * 3_000_000, purpose="fine-tune")
    folder = Path(stack.settings.blob_url.removeprefix("file://"))
    path = folder / f"projects/{stack.tenant.project_id}/files/{file.id}"
    with path.open("r+b") as blob:
        blob.write(b"y")
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        client.files.content(file.id).read()


def test_lost_bytes_are_a_500(stack: Stack) -> None:
    with stack.open_http() as http:
        assert_error(http.get(f"/v1/files/{stack.insert_file().id}/content"), 500)


BOUNDARY = "frontier"


def _build_part(disposition: str, data: bytes = b"x") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return head + data + b"\r\n"


def _build_expiry(**fields: str) -> bytes:
    return b"".join(_build_part(f'name="expires_after[{name}]"', value.encode()) for name, value in fields.items())


FILE_PART, PURPOSE_PART = _build_part('name="file"; filename="a"'), _build_part('name="purpose"', b"fine-tune")
CLOSING_BOUNDARY = f"--{BOUNDARY}--\r\n".encode()

INVALID_FORMS: dict[str, tuple[bytes, str | None]] = {
    "no file": (PURPOSE_PART + CLOSING_BOUNDARY, "file"),
    "no purpose": (FILE_PART + CLOSING_BOUNDARY, "purpose"),
    "unknown purpose": (FILE_PART + _build_part('name="purpose"', b"fine-tune-results") + CLOSING_BOUNDARY, "purpose"),
    "unknown field": (FILE_PART + PURPOSE_PART + _build_part('name="color"', b"red") + CLOSING_BOUNDARY, "color"),
    "expiry of nothing": (
        FILE_PART + PURPOSE_PART + _build_expiry(seconds="3600") + CLOSING_BOUNDARY,
        "expires_after.anchor",
    ),
    "expiry without seconds": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="created_at") + CLOSING_BOUNDARY,
        "expires_after.seconds",
    ),
    "expiry of another time": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="last_active_at", seconds="3600") + CLOSING_BOUNDARY,
        "expires_after.anchor",
    ),
    "expiry too soon": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="created_at", seconds="3599") + CLOSING_BOUNDARY,
        "expires_after.seconds",
    ),
    "expiry too late": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="created_at", seconds="2592001") + CLOSING_BOUNDARY,
        "expires_after.seconds",
    ),
    "expiry in words": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="created_at", seconds="1_0000") + CLOSING_BOUNDARY,
        "expires_after.seconds",
    ),
    "expiry as one field": (
        FILE_PART + PURPOSE_PART + _build_part('name="expires_after"', b"3600") + CLOSING_BOUNDARY,
        "expires_after",
    ),
    "expiry with more": (
        FILE_PART + PURPOSE_PART + _build_expiry(anchor="created_at", seconds="3600", days="1") + CLOSING_BOUNDARY,
        "expires_after.days",
    ),
    "two files": (FILE_PART + FILE_PART + PURPOSE_PART + CLOSING_BOUNDARY, "file"),
    "two purposes": (FILE_PART + PURPOSE_PART + PURPOSE_PART + CLOSING_BOUNDARY, "purpose"),
    "file without a name": (_build_part('name="file"') + PURPOSE_PART + CLOSING_BOUNDARY, "file"),
    "empty file name": (_build_part('name="file"; filename=""') + PURPOSE_PART + CLOSING_BOUNDARY, "file"),
    "file name with NUL": (_build_part('name="file"; filename="a\0b"') + PURPOSE_PART + CLOSING_BOUNDARY, "file"),
    "file name with a newline": (
        _build_part('name="file"; filename="a\u2028b"') + PURPOSE_PART + CLOSING_BOUNDARY,
        "file",
    ),
    "file name too long": (
        _build_part(f'name="file"; filename="{"a" * 256}"') + PURPOSE_PART + CLOSING_BOUNDARY,
        "file",
    ),
    "file in another field": (
        FILE_PART + PURPOSE_PART + _build_part('name="other"; filename="b"') + CLOSING_BOUNDARY,
        "file",
    ),
    "long field": (FILE_PART + _build_part('name="purpose"', b"x" * 5000) + CLOSING_BOUNDARY, "purpose"),
    "many parts": (_build_part('name="a"') * 10_000 + CLOSING_BOUNDARY, None),
    "long header": (_build_part(f'name="{"a" * 1_000_000}"') + CLOSING_BOUNDARY, None),
    "no end": (FILE_PART + PURPOSE_PART, None),
    "other boundary": (b"--other\r\n\r\n" + CLOSING_BOUNDARY, None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize("name", INVALID_FORMS)
def test_invalid_forms(stack: Stack, name: str) -> None:
    body, param = INVALID_FORMS[name]
    with stack.open_http() as http:
        response = http.post(
            "/v1/files", content=body, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
    error = assert_error(response, 400)
    if param:
        assert error["param"] == param


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "application/json", "", "multipart/form-data; boundary=" + "x" * 300]
)
def test_wrong_content_type(stack: Stack, kind: str) -> None:
    with stack.open_http() as http:
        assert_error(
            http.post("/v1/files", content=FILE_PART + PURPOSE_PART + CLOSING_BOUNDARY, headers={"content-type": kind}),
            400,
        )


def test_parts_may_come_in_any_order_and_in_small_chunks(stack: Stack) -> None:
    body = (
        PURPOSE_PART + _build_part('name="file"; filename="a"', b"--front\r\n--frontie\r\n\r\n" * 50) + CLOSING_BOUNDARY
    )
    chunks = (body[offset : offset + 7] for offset in range(0, len(body), 7))
    with stack.open_http() as http:
        response = http.post(
            "/v1/files", content=chunks, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
        assert response.status_code == 200, response.text
        content = http.get(f"/v1/files/{response.json()['id']}/content").content
    assert content == b"--front\r\n--frontie\r\n\r\n" * 50


@dataclass
class _PeakMemory:
    bytes: int = 0


@contextmanager
def _measure_peak_growth() -> Iterator[_PeakMemory]:
    """Sample how much the resident memory grows during the block."""
    process, peak, stopped = psutil.Process(), _PeakMemory(), threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not stopped.wait(0.005):
            peak.bytes = max(peak.bytes, process.memory_info().rss - before)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()


def _list_leftovers(stack: Stack) -> list[str]:
    return os.listdir(stack.settings.home / "uploads")


def test_a_large_file_is_streamed(stack: Stack, tmp_path: Path) -> None:
    """The process (server and streaming client) grows by less than a third of the 64 MB file."""
    size, path = 64 * 2**20, tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(size)
    client = stack.get_client()
    client.files.create(file=b"warm", purpose="fine-tune")
    with _measure_peak_growth() as peak, path.open("rb") as source:
        stored = client.files.create(file=source, purpose="fine-tune")
    assert stored.bytes == size
    assert peak.bytes < size / 3
    digest = hashlib.sha256()
    with _measure_peak_growth() as peak, client.files.with_streaming_response.content(stored.id) as content:
        for chunk in content.iter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == hash_file(path).sha256
    assert peak.bytes < size / 3
    assert _list_leftovers(stack) == []


def test_a_file_too_large_is_refused_and_leaves_nothing(stack: Stack) -> None:
    limit = stack.settings.max_upload_bytes
    head = PURPOSE_PART + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(limit // 2**20 + 8):
            yield b"x" * 2**20

    with stack.open_http() as http:
        response = http.post(
            "/v1/files", content=endless(), headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
    assert_error(response, 413)
    assert _list_leftovers(stack) == []
