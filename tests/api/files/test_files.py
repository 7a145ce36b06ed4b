"""Files through the official client, and what the multipart reader refuses."""

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
from tests.api.test_errors import error_of


def new_batch(file: File, status: str) -> Batch:
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


def limit_bytes(stack: Stack, most: int) -> None:
    async def limit(session: AsyncSession) -> None:
        mine = col(Project.id) == stack.ours.project_id
        await session.execute(update(Project).where(mine).values(max_bytes=most))

    stack.session(limit)


ROWS = b'{"text": "Where is my card?", "label": "card"}\n'


def test_round_trip(stack: Stack) -> None:
    client = stack.client()
    made = client.files.create(file=("rows – ü.jsonl", ROWS), purpose="fine-tune")
    assert (made.bytes, made.filename, made.purpose, made.status) == (
        len(ROWS),
        "rows – ü.jsonl",
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == ROWS
    assert client.files.wait_for_processing(made.id, max_wait_seconds=1).status == "processed"
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(made.id)
    assert caught.value.param == "file_id"


def test_bytes_without_a_name_are_called_upload(stack: Stack) -> None:
    made = stack.client().files.create(file=b"", purpose="user_data")
    assert (made.filename, made.bytes) == ("upload", 0)
    assert stack.client().files.content(made.id).read() == b""


def test_deleting_removes_the_bytes(stack: Stack) -> None:
    client = stack.client()
    made = client.files.create(file=ROWS, purpose="fine-tune")
    key = f"projects/{stack.ours.project_id}/files/{made.id}"
    folder = Path(stack.settings.blob_url.removeprefix("file://"))
    assert (folder / key).exists()
    client.files.delete(made.id)
    assert not (folder / key).exists()


@pytest.mark.parametrize("state", ["validating_files", "queued", "running"])
@pytest.mark.parametrize("field", ["training_file", "validation_file", "general_file"])
def test_a_file_that_a_job_needs_stays(stack: Stack, field: str, state: str) -> None:
    client = stack.client()
    made = client.files.create(file=ROWS, purpose="fine-tune")
    job = stack.job(state=state, **{field: made.id})
    with pytest.raises(openai.BadRequestError, match=job.id) as caught:
        client.files.delete(made.id)
    assert caught.value.code == "file_in_use"
    assert client.files.content(made.id).read() == ROWS


def test_a_file_of_an_ended_job_goes(stack: Stack) -> None:
    client = stack.client()
    made = client.files.create(file=ROWS, purpose="fine-tune")
    stack.job(state="failed", training_file=made.id)
    assert client.files.delete(made.id).deleted


@pytest.mark.parametrize(
    ("status", "goes"), [("validating", False), ("in_progress", False), ("cancelling", False), ("completed", True)]
)
def test_a_file_that_a_batch_needs_stays(stack: Stack, status: str, goes: bool) -> None:
    file = stack.file(purpose="batch")
    stack.insert(new_batch(file, status))
    if goes:
        assert stack.client().files.delete(file.id).deleted
    else:
        with pytest.raises(openai.BadRequestError, match="The batch batch_") as caught:
            stack.client().files.delete(file.id)
        assert caught.value.code == "file_in_use"


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"])
def test_every_purpose(stack: Stack, purpose: str) -> None:
    with stack.http() as http:
        made = http.post("/v1/files", data={"purpose": purpose}, files={"file": ("a", ROWS)}).json()
        assert http.get(f"/v1/files/{made['id']}").json() == made
    assert made["purpose"] == purpose
    assert made["expires_at"] == (made["created_at"] + 2_592_000 if purpose == "batch" else None)
    assert made["status_details"] is None


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
def test_expires_after(stack: Stack, seconds: int) -> None:
    made = stack.client().files.create(
        file=ROWS, purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
    )
    assert made.expires_at == made.created_at + seconds


def test_an_expired_file_is_not_there(stack: Stack) -> None:
    stack = stack.fresh()
    gone, there = stack.file(expires_at=time.time() - 1), stack.file(expires_at=time.time() + 60)
    client = stack.client()
    assert [file.id for file in client.files.list()] == [there.id]
    with stack.http() as http:
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
            answers = [http.request(method, f"/v1/files/{name}{path}") for name in (gone.id, "file-none")]
            assert error_of(answers[0], 404)["param"] == "file_id"
            assert answers[0].content == answers[1].content
        body = {"model": "starter", "training_file": gone.id}
        assert error_of(http.post("/v1/fine_tuning/jobs", json=body), 400)["param"] == "training_file"
        assert error_of(http.get("/v1/files", params={"after": gone.id}), 400)["param"] == "after"


def test_a_file_over_the_quota_leaves_nothing(stack: Stack) -> None:
    stack = stack.fresh()
    limit_bytes(stack, 100)
    client = stack.client()
    first = client.files.create(file=b"x" * 60, purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="100 bytes") as caught:
        client.files.create(file=b"x" * 41, purpose="user_data")
    assert caught.value.code == "quota_exceeded"
    assert len(list(stack.blobs.list(f"projects/{stack.ours.project_id}/files"))) == 1
    assert client.files.create(file=b"x" * 40, purpose="user_data").bytes == 40
    client.files.delete(first.id)
    assert client.files.create(file=b"x" * 60, purpose="user_data").bytes == 60


def test_deleting_twice(stack: Stack) -> None:
    made = stack.file()
    with stack.http() as http:
        assert http.delete(f"/v1/files/{made.id}").status_code == 200
        error_of(http.delete(f"/v1/files/{made.id}"), 404)


def test_list_filters_orders_and_pages(stack: Stack) -> None:
    stack = stack.fresh()
    client = stack.client()
    made = [stack.file(purpose="vision").id for _ in range(5)]
    assert [file.id for file in client.files.list(purpose="vision", order="asc")] == made
    assert [file.id for file in client.files.list(purpose="vision", limit=2)] == made[::-1]
    page = client.files.list(purpose="vision", limit=2, after=made[3])
    assert [file.id for file in page.data] == [made[2], made[1]]
    assert page.has_more
    with stack.http() as http:
        raw = http.get("/v1/files", params={"purpose": "vision", "limit": 2}).json()
        assert (raw["first_id"], raw["last_id"]) == (made[4], made[3])
        empty = http.get("/v1/files", params={"purpose": "assistants"}).json()
        assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(("limit", "status"), [(0, 200), (1, 200), (10_000, 200), (10_001, 400)])
def test_list_limit(stack: Stack, limit: int, status: int) -> None:
    with stack.http() as http:
        assert http.get("/v1/files", params={"limit": limit}).status_code == status


def test_a_cursor_need_not_fit_the_filter(stack: Stack) -> None:
    stack = stack.fresh()
    client = stack.client()
    first, other = stack.file(purpose="vision"), stack.file(purpose="assistants")
    assert [file.id for file in client.files.list(purpose="vision", after=other.id)] == [first.id]
    assert client.files.list(purpose="nothing", after=other.id, limit=0).data == []


def test_unknown_cursor(stack: Stack) -> None:
    foreign = stack.as_theirs().file()
    with stack.http() as http:
        answers = [http.get("/v1/files", params={"after": after}) for after in ("file-none", foreign.id)]
    assert error_of(answers[0], 400)["param"] == "after"
    assert answers[0].content == answers[1].content


def test_damaged_bytes_do_not_arrive_whole(stack: Stack) -> None:
    client = stack.client()
    made = client.files.create(file=b"x" * 3_000_000, purpose="fine-tune")
    folder = Path(stack.settings.blob_url.removeprefix("file://"))
    path = folder / f"projects/{stack.ours.project_id}/files/{made.id}"
    with path.open("r+b") as file:
        file.write(b"y")
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        client.files.content(made.id).read()


def test_lost_bytes_are_a_500(stack: Stack) -> None:
    with stack.http() as http:
        error_of(http.get(f"/v1/files/{stack.file().id}/content"), 500)


BOUNDARY = "frontier"


def _part(disposition: str, data: bytes = b"x") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return head + data + b"\r\n"


def _expiry(**fields: str) -> bytes:
    return b"".join(_part(f'name="expires_after[{name}]"', value.encode()) for name, value in fields.items())


FILE, PURPOSE = _part('name="file"; filename="a"'), _part('name="purpose"', b"fine-tune")
END = f"--{BOUNDARY}--\r\n".encode()

BAD_FORMS: dict[str, tuple[bytes, str | None]] = {
    "no file": (PURPOSE + END, "file"),
    "no purpose": (FILE + END, "purpose"),
    "unknown purpose": (FILE + _part('name="purpose"', b"fine-tune-results") + END, "purpose"),
    "unknown field": (FILE + PURPOSE + _part('name="colour"', b"red") + END, "colour"),
    "expiry of nothing": (FILE + PURPOSE + _expiry(seconds="3600") + END, "expires_after.anchor"),
    "expiry without seconds": (FILE + PURPOSE + _expiry(anchor="created_at") + END, "expires_after.seconds"),
    "expiry of another time": (
        FILE + PURPOSE + _expiry(anchor="last_active_at", seconds="3600") + END,
        "expires_after.anchor",
    ),
    "expiry too soon": (FILE + PURPOSE + _expiry(anchor="created_at", seconds="3599") + END, "expires_after.seconds"),
    "expiry too late": (
        FILE + PURPOSE + _expiry(anchor="created_at", seconds="2592001") + END,
        "expires_after.seconds",
    ),
    "expiry in words": (FILE + PURPOSE + _expiry(anchor="created_at", seconds="1_0000") + END, "expires_after.seconds"),
    "expiry as one field": (FILE + PURPOSE + _part('name="expires_after"', b"3600") + END, "expires_after"),
    "expiry with more": (
        FILE + PURPOSE + _expiry(anchor="created_at", seconds="3600", days="1") + END,
        "expires_after.days",
    ),
    "two files": (FILE + FILE + PURPOSE + END, "file"),
    "two purposes": (FILE + PURPOSE + PURPOSE + END, "purpose"),
    "file without a name": (_part('name="file"') + PURPOSE + END, "file"),
    "empty file name": (_part('name="file"; filename=""') + PURPOSE + END, "file"),
    "file name with NUL": (_part('name="file"; filename="a\0b"') + PURPOSE + END, "file"),
    "file name with a newline": (_part('name="file"; filename="a\u2028b"') + PURPOSE + END, "file"),
    "file name too long": (_part(f'name="file"; filename="{"a" * 256}"') + PURPOSE + END, "file"),
    "file in another field": (FILE + PURPOSE + _part('name="other"; filename="b"') + END, "file"),
    "long field": (FILE + _part('name="purpose"', b"x" * 5000) + END, "purpose"),
    "many parts": (_part('name="a"') * 10_000 + END, None),
    "long header": (_part(f'name="{"a" * 1_000_000}"') + END, None),
    "no end": (FILE + PURPOSE, None),
    "other boundary": (b"--other\r\n\r\n" + END, None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_bad_forms(stack: Stack, name: str) -> None:
    body, param = BAD_FORMS[name]
    with stack.http() as http:
        response = http.post(
            "/v1/files", content=body, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
    error = error_of(response, 400)
    if param:
        assert error["param"] == param


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "application/json", "", "multipart/form-data; boundary=" + "x" * 300]
)
def test_wrong_content_type(stack: Stack, kind: str) -> None:
    with stack.http() as http:
        error_of(http.post("/v1/files", content=FILE + PURPOSE + END, headers={"content-type": kind}), 400)


def test_parts_may_come_in_any_order_and_in_crumbs(stack: Stack) -> None:
    body = PURPOSE + _part('name="file"; filename="a"', b"--front\r\n--frontie\r\n\r\n" * 50) + END
    crumbs = (body[at : at + 7] for at in range(0, len(body), 7))
    with stack.http() as http:
        response = http.post(
            "/v1/files", content=crumbs, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
        assert response.status_code == 200, response.text
        content = http.get(f"/v1/files/{response.json()['id']}/content").content
    assert content == b"--front\r\n--frontie\r\n\r\n" * 50


@dataclass
class _Peak:
    bytes: int = 0


@contextmanager
def _peak_growth() -> Iterator[_Peak]:
    """Resident memory that the body takes more than before, sampled."""
    process, peak, over = psutil.Process(), _Peak(), threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not over.wait(0.005):
            peak.bytes = max(peak.bytes, process.memory_info().rss - before)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _leftovers(stack: Stack) -> list[str]:
    return os.listdir(stack.settings.home / "uploads")


def test_a_large_file_is_streamed(stack: Stack, tmp_path: Path) -> None:
    """64 MB go up and come back while the process (server, and a client that streams) grows by less than a third."""
    size, path = 64 * 2**20, tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(size)
    client = stack.client()
    client.files.create(file=b"warm", purpose="fine-tune")
    with _peak_growth() as peak, path.open("rb") as file:
        made = client.files.create(file=file, purpose="fine-tune")
    assert made.bytes == size
    assert peak.bytes < size / 3
    digest = hashlib.sha256()
    with _peak_growth() as peak, client.files.with_streaming_response.content(made.id) as content:
        for chunk in content.iter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == hash_file(path).sha256
    assert peak.bytes < size / 3
    assert _leftovers(stack) == []


def test_a_file_too_large_is_refused_and_leaves_nothing(stack: Stack) -> None:
    limit = stack.settings.max_upload_bytes
    head = PURPOSE + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(limit // 2**20 + 8):
            yield b"x" * 2**20

    with stack.http() as http:
        response = http.post(
            "/v1/files", content=endless(), headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
    error_of(response, 413)
    assert _leftovers(stack) == []
