"""Batches through the official client: creation, progress, cancellation and results."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import update
from sqlmodel import col

from jobs.batches import store
from jobs.batches.worker import BatchRun
from jobs.resources import open_resources
from storage.ids import new_id
from storage.tables import Batch, File
from tests.api.stack import Stack, run_stack
from tests.api.test_errors import assert_error

CHAT_PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A separate stack, because a worker claims every batch in the database."""
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_stack(Path(home)) as running:
        yield running


def build_request_line(custom_id: str, model: str = "starter", content: str = "hello") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT_PATH, "body": body}).encode() + b"\n"


def upload_lines(stack: Stack, *lines: bytes) -> str:
    return stack.get_client().files.create(file=b"".join(lines), purpose="batch").id


def insert_batch(stack: Stack, **values: Any) -> Batch:
    now = time.time()
    defaults = {
        "id": new_id("batch"),
        "project_id": stack.tenant.project_id,
        "created_at": now,
        "endpoint": CHAT_PATH,
        "input_file_id": "file-gone",
        "completion_window": "24h",
        "expires_at": now + 86400,
    }
    batch = Batch(**{**defaults, **values})
    stack.insert(batch)
    return batch


def run_worker(stack: Stack) -> None:
    """Claim and process batches until none is claimable: other tests leave batches too."""

    async def process() -> int:
        count = 0
        async with open_resources(stack.settings) as resources:
            while True:
                async with resources.db.write() as session:
                    claim = await store.claim(session, "w", 30)
                if claim is None:
                    return count
                await BatchRun(resources, *claim, folder=stack.settings.home / "scratch").work()
                count += 1

    assert asyncio.run(process()) > 0


def test_from_create_to_content(stack: Stack) -> None:
    client = stack.get_client()
    model = stack.insert_model()
    file = upload_lines(
        stack,
        build_request_line("first"),
        build_request_line("mine", model.id),
        build_request_line("bad", content="too long"),
    )
    batch = client.batches.create(
        input_file_id=file,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"run": "1"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (batch.object, batch.status, batch.endpoint, batch.input_file_id) == ("batch", "validating", CHAT_PATH, file)
    assert (batch.metadata, batch.errors, batch.output_file_id) == ({"run": "1"}, None, None)
    assert batch.expires_at == pytest.approx(batch.created_at + 86400, abs=1)
    run_worker(stack)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.model) == ("completed", None)
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (3, 2, 1)
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (6, 4, 10)
    assert None not in (done.in_progress_at, done.finalizing_at, done.completed_at)
    assert {done.failed_at, done.expired_at, done.cancelling_at, done.cancelled_at} == {None}
    assert done.output_file_id
    assert done.error_file_id
    rows = [json.loads(text) for text in client.files.content(done.output_file_id).text.splitlines()]
    assert [(row["custom_id"], row["response"]["body"]["model"]) for row in rows] == [
        ("first", "starter"),
        ("mine", model.id),
    ]
    [failed_row] = [json.loads(text) for text in client.files.content(done.error_file_id).text.splitlines()]
    assert (failed_row["custom_id"], failed_row["response"]["status_code"]) == ("bad", 400)
    file_out = client.files.retrieve(done.output_file_id)
    assert (file_out.purpose, file_out.expires_at) == ("batch_output", file_out.created_at + 3600)
    assert client.files.delete(file).deleted


def test_a_file_that_is_no_batch(stack: Stack) -> None:
    client = stack.get_client()
    batch = client.batches.create(
        input_file_id=upload_lines(stack, build_request_line("a"), build_request_line("a"), b"{}\n"),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    run_worker(stack)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.output_file_id) == ("failed", None)
    assert done.errors is not None
    assert done.errors.object == "list"
    assert done.errors.data is not None
    assert [(error.code, error.line) for error in done.errors.data] == [
        ("duplicate_custom_id", 2),
        ("missing_required_parameter", 3),
    ]


def test_cancelling(stack: Stack) -> None:
    client = stack.get_client()
    batch = client.batches.create(
        input_file_id=upload_lines(stack, build_request_line("a")),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    cancelling = client.batches.cancel(batch.id)
    assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)
    assert client.batches.cancel(batch.id).cancelling_at == cancelling.cancelling_at
    run_worker(stack)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.cancelled_at is not None) == ("cancelled", True)
    with stack.open_http() as http:
        response = http.post(f"/v1/batches/{batch.id}/cancel")
    assert assert_error(response, 400)["code"] == "invalid_state"
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling"])
def test_a_file_that_a_batch_needs_stays(stack: Stack, status: str) -> None:
    file = upload_lines(stack, build_request_line("a"))
    batch = insert_batch(stack, input_file_id=file, status=status, lease_until=time.time() + 3600)
    with pytest.raises(openai.BadRequestError, match=batch.id):
        stack.get_client().files.delete(file)


VALID_BODY = {"input_file_id": "file-x", "endpoint": CHAT_PATH, "completion_window": "24h"}
INVALID_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"input_file_id": None}, "input_file_id"),
    "unknown file": ({}, "input_file_id"),
    "endpoint": ({"endpoint": "/v1/responses"}, "endpoint"),
    "window": ({"completion_window": "1h"}, "completion_window"),
    "metadata": ({"metadata": {"k": 1}}, "metadata.k"),
    "expiry": ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
    "anchor": ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after.anchor"),
    "more": ({"color": "red"}, "color"),
}


@pytest.mark.parametrize("name", INVALID_CHANGES)
def test_invalid_batches(stack: Stack, name: str) -> None:
    changed, param = INVALID_CHANGES[name]
    with stack.open_http() as http:
        assert assert_error(http.post("/v1/batches", json={**VALID_BODY, **changed}), 400)["param"] == param


def test_unsuitable_files(stack: Stack) -> None:
    files = {
        "invalid_purpose": stack.insert_file("fine-tune").id,
        "file_too_large": stack.insert_file("batch").id,
        "file_not_found": stack.insert_file("batch", expires_at=time.time() - 1).id,
    }
    stack.run_in_session(lambda session: _enlarge(session, files["file_too_large"]))
    foreign = stack.as_other_tenant().insert_file("batch").id
    with stack.open_http() as http:
        for code, file in files.items():
            error = assert_error(http.post("/v1/batches", json={**VALID_BODY, "input_file_id": file}), 400)
            assert (error["code"], error["param"]) == (code, "input_file_id")
        responses = [
            http.post("/v1/batches", json={**VALID_BODY, "input_file_id": file}) for file in (foreign, "file-none")
        ]
    assert responses[0].content == responses[1].content


async def _enlarge(session: Any, file_id: str) -> None:
    await session.execute(update(File).where(col(File.id) == file_id).values(bytes=200 * 10**6 + 1))


def test_list_pages(stack: Stack) -> None:
    stack = stack.with_new_project()
    ids = [insert_batch(stack, status="completed", created_at=5.0).id for _ in range(5)]
    client = stack.get_client()
    assert [batch.id for batch in client.batches.list(limit=2)] == sorted(ids, reverse=True)
    page = client.batches.list(limit=2)
    assert page.has_more
    with stack.open_http() as http:
        assert assert_error(http.get("/v1/batches", params={"after": "batch_none"}), 400)["param"] == "after"


def test_another_projects_batch_looks_unknown(stack: Stack) -> None:
    foreign = insert_batch(stack.as_other_tenant(), status="completed").id
    with stack.open_http() as http:
        for path, send in (("", http.get), ("/cancel", http.post)):
            foreign_response, unknown_response = (
                send(f"/v1/batches/{foreign}{path}"),
                send(f"/v1/batches/batch_none{path}"),
            )
            assert assert_error(foreign_response, 404)["param"] == "batch_id"
            assert foreign_response.content == unknown_response.content


def test_another_projects_model_fails_the_batch(stack: Stack) -> None:
    foreign = stack.as_other_tenant().insert_model()
    client = stack.get_client()
    batch = client.batches.create(
        input_file_id=upload_lines(stack, build_request_line("a", foreign.id)),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    run_worker(stack)
    done = client.batches.retrieve(batch.id)
    assert done.errors is not None
    assert done.errors.data is not None
    assert [error.code for error in done.errors.data] == ["model_not_found"]
