"""Idempotency: repeating a request creates one job and returns the first response."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from storage.access.keys import create_key
from storage.tables import IdempotencyRecord, Job
from tests.api.stack import Stack
from tests.api.test_errors import assert_error

JOBS_PATH = "/v1/fine_tuning/jobs"
CHAT_BODY = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def fresh_stack(stack: Stack) -> Stack:
    """The same server for a new, empty project."""
    return stack.with_new_project()


def _build_body(stack: Stack, **values: Any) -> dict[str, Any]:
    return {"model": "starter", "training_file": stack.insert_file().id, **values}


def _count_jobs(stack: Stack) -> int:
    async def count(session: Any) -> int:
        query = select(func.count()).select_from(Job).where(col(Job.project_id) == stack.tenant.project_id)
        return int((await session.execute(query)).scalar_one())

    return stack.run_in_session(count)


def _age_records(stack: Stack, seconds: float, **values: Any) -> None:
    """Make this project's idempotency records older."""

    async def age(session: Any) -> None:
        condition = col(IdempotencyRecord.project_id) == stack.tenant.project_id
        await session.execute(
            update(IdempotencyRecord)
            .where(condition)
            .values(created_at=col(IdempotencyRecord.created_at) - seconds, **values)
        )

    stack.run_in_session(age)


def test_the_same_key_and_body_make_one_job(fresh_stack: Stack) -> None:
    body, headers = _build_body(fresh_stack), {"idempotency-key": "a"}
    with fresh_stack.open_http() as http:
        first, again = (http.post(JOBS_PATH, json=body, headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert _count_jobs(fresh_stack) == 1


def test_another_body_with_the_key_is_refused(fresh_stack: Stack) -> None:
    body, headers = _build_body(fresh_stack), {"idempotency-key": "a"}
    with fresh_stack.open_http() as http:
        http.post(JOBS_PATH, json=body, headers=headers)
        for other in ({**body, "seed": 1}, {}):
            assert (
                assert_error(http.post(JOBS_PATH, json=other, headers=headers), 400)["code"] == "idempotency_key_reused"
            )
        elsewhere = http.post("/v1/chat/completions", json=body, headers=headers)
        assert assert_error(elsewhere, 400)["code"] == "idempotency_key_reused"
    assert _count_jobs(fresh_stack) == 1


def test_fifty_concurrent_requests_create_one_job(fresh_stack: Stack) -> None:
    body, headers = _build_body(fresh_stack), {"idempotency-key": "fifty"}

    def send(_: int) -> httpx.Response:
        with fresh_stack.open_http() as http:
            while (response := http.post(JOBS_PATH, json=body, headers=headers)).status_code == 409:
                assert assert_error(response, 409)["code"] == "request_in_progress"
                time.sleep(float(response.headers["retry-after"]) / 20)
            return response

    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(send, range(50)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum("idempotent-replayed" in response.headers for response in responses) == 49
    assert _count_jobs(fresh_stack) == 1


def test_projects_and_roles_do_not_share_keys(fresh_stack: Stack) -> None:
    other = fresh_stack.with_new_project()

    async def create_reader_key(session: Any) -> str:
        return (await create_key(session, fresh_stack.tenant.project_id, "reader", "read"))[0]

    headers = {"idempotency-key": "a"}
    with fresh_stack.open_http() as http, other.open_http() as other_http:
        body = _build_body(fresh_stack)
        first = http.post(JOBS_PATH, json=body, headers=headers)
        assert other_http.post(JOBS_PATH, json=_build_body(other), headers=headers).json()["id"] != first.json()["id"]
        reader_headers = {**headers, "authorization": f"Bearer {fresh_stack.run_in_session(create_reader_key)}"}
        response = http.post(JOBS_PATH, json=body, headers=reader_headers)
    assert assert_error(response, 400)["code"] == "idempotency_key_reused"
    assert first.json()["id"] not in response.text


def test_a_rejected_request_may_be_retried(fresh_stack: Stack) -> None:
    headers = {"idempotency-key": "a"}
    with fresh_stack.open_http() as http:
        for _ in range(2):
            response = http.post(JOBS_PATH, json={"model": "starter"}, headers=headers)
            assert assert_error(response, 400)["code"] == "missing_required_parameter"
        assert http.post(JOBS_PATH, json=_build_body(fresh_stack), headers=headers).status_code == 200


def test_a_key_expires_after_a_day(fresh_stack: Stack) -> None:
    body, headers = _build_body(fresh_stack), {"idempotency-key": "a"}
    with fresh_stack.open_http() as http:
        first = http.post(JOBS_PATH, json=body, headers=headers).json()
        _age_records(fresh_stack, 86_000)
        assert http.post(JOBS_PATH, json=body, headers=headers).json() == first
        _age_records(fresh_stack, 500)
        assert http.post(JOBS_PATH, json=body, headers=headers).json()["id"] != first["id"]


def test_a_request_that_died_with_its_process_is_run_again(fresh_stack: Stack) -> None:
    """Requests get a 409 while the process may still be alive. After that, the request runs
    again."""
    body, headers = _build_body(fresh_stack), {"idempotency-key": "a"}
    with fresh_stack.open_http() as http:
        first = http.post(JOBS_PATH, json=body, headers=headers).json()
        _age_records(fresh_stack, 0, status=None, body=None)
        waiting = http.post(JOBS_PATH, json=body, headers=headers)
        assert assert_error(waiting, 409)["code"] == "request_in_progress"
        _age_records(fresh_stack, 61)
        assert http.post(JOBS_PATH, json=body, headers=headers).json()["id"] != first["id"]


def test_the_response_is_stored_with_the_job(fresh_stack: Stack) -> None:
    """The job and its response commit together, so a process killed after the commit loses
    neither."""
    with fresh_stack.open_http() as http:
        job = http.post(JOBS_PATH, json=_build_body(fresh_stack), headers={"idempotency-key": "a"}).json()

    async def get_stored_body(session: Any) -> str:
        row = await session.get(IdempotencyRecord, (fresh_stack.tenant.project_id, "key:a"))
        return str(row.body)

    assert job["id"] in fresh_stack.run_in_session(get_stored_body)


@pytest.mark.parametrize("key", ["", "x" * 256, "\xff"])
def test_keys_are_bounded(fresh_stack: Stack, key: str) -> None:
    with fresh_stack.open_http() as http:
        response = http.post(
            JOBS_PATH, json=_build_body(fresh_stack), headers=[("idempotency-key", key.encode("latin-1"))]
        )
    assert "Idempotency-Key" in assert_error(response, 400)["message"]


def test_model_responses_are_stored_and_streams_are_not(fresh_stack: Stack) -> None:
    before = len(fresh_stack.engine.requests)
    with fresh_stack.open_http() as http:
        for body, expected_requests in (({**CHAT_BODY, "seed": 5}, 1), ({**CHAT_BODY, "stream": True}, 2)):
            texts = [
                http.post("/v1/chat/completions", json=body, headers={"idempotency-key": str(expected_requests)}).text
            ] * 2
            http.post("/v1/chat/completions", json=body, headers={"idempotency-key": str(expected_requests)})
            assert texts[0]
            assert len(fresh_stack.engine.requests) - before == expected_requests
            before = len(fresh_stack.engine.requests)


def test_an_sdk_s_retry_makes_no_second_job(fresh_stack: Stack) -> None:
    body = _build_body(fresh_stack)

    def send(http: httpx.Client, count: str, body: dict[str, Any]) -> httpx.Response:
        return http.post(JOBS_PATH, json=body, headers={"x-stainless-retry-count": count})

    with fresh_stack.open_http() as http:
        first, again = send(http, "0", body), send(http, "1", body)
        assert first.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"
        assert send(http, "2", body).json() == first.json()
        # A deliberate second request is not a retry.
        second = send(http, "0", body).json()
        assert second["id"] != first.json()["id"]
        assert send(http, "1", body).json() == second
        assert send(http, "1", {**body, "seed": 9}).json()["id"] not in (first.json()["id"], second["id"])
        _age_records(fresh_stack, 601)
        assert send(http, "1", body).json()["id"] not in (first.json()["id"], second["id"])
    assert _count_jobs(fresh_stack) == 4


def test_concurrent_retries_create_one_job(fresh_stack: Stack) -> None:
    body = _build_body(fresh_stack)

    def send(_: int) -> str:
        with fresh_stack.open_http() as http:
            return str(http.post(JOBS_PATH, json=body, headers={"x-stainless-retry-count": "1"}).json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert _count_jobs(fresh_stack) == 1


def test_another_key_s_retry_is_its_own(fresh_stack: Stack) -> None:
    async def create_second_key(session: Any) -> str:
        return (await create_key(session, fresh_stack.tenant.project_id, "second"))[0]

    body = _build_body(fresh_stack)
    with fresh_stack.open_http() as http:
        first = http.post(JOBS_PATH, json=body, headers={"x-stainless-retry-count": "0"}).json()["id"]
        headers = {
            "authorization": f"Bearer {fresh_stack.run_in_session(create_second_key)}",
            "x-stainless-retry-count": "1",
        }
        assert http.post(JOBS_PATH, json=body, headers=headers).json()["id"] != first


def test_the_official_client_s_retry(fresh_stack: Stack) -> None:
    """The response is lost in transit, and the client retries by itself."""
    lost: list[str] = []

    class LossyTransport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and not lost:
                lost.append(response.read().decode())
                raise httpx.ReadError("lost", request=request)
            return response

    http = httpx.Client(transport=LossyTransport())
    client = fresh_stack.get_client(max_retries=2).with_options(http_client=http)
    job = client.fine_tuning.jobs.create(model="starter", training_file=fresh_stack.insert_file().id)
    assert job.id in lost.pop()
    assert _count_jobs(fresh_stack) == 1
    file = client.files.create(file=("rows.jsonl", b"{}"), purpose="batch")
    http.close()
    assert file.id in lost[0]
    assert [stored.id for stored in fresh_stack.get_client().files.list(purpose="batch")] == [file.id]


FILES_PATH = "/v1/files"
DATA = b'{"messages": []}\n'


def _upload(http: httpx.Client, data: bytes = DATA, name: str = "rows.jsonl", **headers: str) -> httpx.Response:
    return http.post(FILES_PATH, data={"purpose": "fine-tune"}, files={"file": (name, data)}, headers=headers)


def _count_files(stack: Stack) -> tuple[int, int]:
    """Return the numbers of rows and of blobs of the project's files."""
    blobs = list(stack.blobs.list(f"projects/{stack.tenant.project_id}/files"))
    return len(stack.get_client().files.list().data), len(blobs)


def test_a_file_s_retry_makes_no_second_file(fresh_stack: Stack) -> None:
    """The boundary of the body does not matter. Other bytes or another name create another file."""
    with fresh_stack.open_http() as http:
        retry = {"x-stainless-retry-count": "1"}
        first = _upload(http, **{"x-stainless-retry-count": "0"})
        again = _upload(http, **retry)
        assert first.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"
        assert _count_files(fresh_stack) == (1, 1)
        other_uploads = [_upload(http, DATA + b"\n", **retry), _upload(http, name="other.jsonl", **retry)]
        other_uploads.append(_upload(http, **{"x-stainless-retry-count": "0"}))
        assert len({response.json()["id"] for response in (first, *other_uploads)}) == 4
    assert _count_files(fresh_stack) == (4, 4)


def test_a_file_s_key(fresh_stack: Stack) -> None:
    with fresh_stack.open_http() as http:
        first, again = (_upload(http, **{"idempotency-key": "a"}) for _ in range(2))
        assert first.json() == again.json()
        error = assert_error(_upload(http, b"other", **{"idempotency-key": "a"}), 400)
    assert error["code"] == "idempotency_key_reused"
    assert _count_files(fresh_stack) == (1, 1)


def test_concurrent_retries_create_one_file(fresh_stack: Stack) -> None:
    def send(_: int) -> str:
        with fresh_stack.open_http() as http:
            return str(_upload(http, **{"x-stainless-retry-count": "1"}).json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert _count_files(fresh_stack) == (1, 1)
