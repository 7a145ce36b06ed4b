"""Preflight and preview over HTTP: reports, previews, limits, and no rows created."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import func, select

from storage.tables import Event, Job
from tests.api.stack import Stack, run_stack
from tests.api.test_errors import assert_error
from tests.services import wait_for
from tests.tiny import create_tiny_chat_base

pytestmark = pytest.mark.integration

PREFLIGHT_PATH, PREVIEW_PATH = "/v1/fine_tuning/jobs:preflight", "/v1/fine_tuning/jobs:preview"
ROWS = [
    {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": "Yes."}]}
    for n in range(12)
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home:
        create_tiny_chat_base(Path(home) / "base")
        with run_stack(Path(home), train_threads=1) as running:
            yield running


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.open_http() as client:
        client.timeout = httpx.Timeout(90)
        yield client


def _upload_file(stack: Stack, rows: list[dict[str, Any]] | bytes) -> str:
    data = rows if isinstance(rows, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return stack.get_client().files.create(file=("rows.jsonl", data), purpose="fine-tune").id


@pytest.fixture(scope="module")
def file_id(stack: Stack) -> str:
    return _upload_file(stack, ROWS)


def _build_body(file_id: str, **values: Any) -> dict[str, Any]:
    hyperparameters = {"n_epochs": 2, "batch_size": 4}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    return {"model": "starter", "training_file": file_id, "method": method, **values}


def _count_rows(stack: Stack) -> tuple[int, int]:
    async def count(session: Any) -> tuple[int, int]:
        jobs = (await session.execute(select(func.count()).select_from(Job))).scalar_one()
        return jobs, (await session.execute(select(func.count()).select_from(Event))).scalar_one()

    return stack.run_in_session(count)


def test_the_report(stack: Stack, http: httpx.Client, file_id: str) -> None:
    before = _count_rows(stack)
    response = http.post(PREFLIGHT_PATH, json=_build_body(file_id, validation_file=file_id))
    assert response.status_code == 200, response.text
    report = response.json()
    assert (report["object"], report["valid"], report["error"]) == ("fine_tuning.preflight", True, None)
    assert (report["model"], report["task"], report["method"]) == ("starter", "chat", "supervised")
    assert report["update"]["type"] == "lora"
    assert report["files"]["training_file"]["rows"] == report["files"]["validation_file"]["rows"] == 12
    assert report["total_steps"] == 6
    assert report["total_tokens"] == 2 * report["files"]["training_file"]["tokens"]
    assert "auto" not in report["hyperparameters"].values()
    assert 0 < report["trainable_parameters"] < report["total_parameters"]
    assert report["servable_by"] == ["luthier", "vllm"]
    for name in ("seconds", "peak_memory_bytes"):
        estimate = report["estimate"][name]
        assert 0 < estimate["low"] <= estimate["expected"] <= estimate["high"]
    assert report["estimate"]["basis"] == "rule"
    assert _count_rows(stack) == before
    assert not list(stack.settings.work_dir.glob("*"))


def test_the_speed_of_earlier_jobs(stack: Stack, http: httpx.Client, file_id: str) -> None:
    values: dict[str, Any] = {"state": "succeeded", "finished_at": time.time()}
    for speed in (50.0, 100.0, 400.0):
        stack.insert_job(progress={"tokens_per_second": speed}, **values)
    stack.insert_job(progress={"tokens_per_second": 1.0}, **{**values, "state": "failed"})
    stack.insert_job(progress={"tokens_per_second": 1.0}, update={"type": "full"}, **values)
    stack.insert_job(progress=None, **values)
    report = http.post(PREFLIGHT_PATH, json=_build_body(file_id)).json()
    assert (report["estimate"]["basis"], report["estimate"]["tokens_per_second"]) == ("measured", 100.0)
    seconds = report["total_tokens"] / 100
    assert report["estimate"]["seconds"]["expected"] == pytest.approx(seconds + 3, abs=0.2)
    assert report["estimate"]["seconds"]["high"] == pytest.approx(2.5 * seconds + 3, abs=0.2)


def test_row_errors_with_their_lines(stack: Stack, http: httpx.Client) -> None:
    file_id = _upload_file(stack, json.dumps(ROWS[0]).encode() + b'\n{"messages": []}\n{"prompt": "x"}\n')
    report = http.post(PREFLIGHT_PATH, json=_build_body(file_id)).json()
    assert (report["valid"], report["error"]["code"], report["estimate"]) == (False, "invalid_dataset", None)
    assert {row_error["line"] for row_error in report["faults"]} == {2, 3}
    assert all({"code", "field", "message", "file"} <= row_error.keys() for row_error in report["faults"])
    assert report["fault_count"] == len(report["faults"])


def test_preflight_rejects_invalid_jobs(stack: Stack, http: httpx.Client, file_id: str) -> None:
    foreign_file = stack.as_other_tenant().insert_file().id
    cases = [
        ({"model": "nothing"}, "model"),
        ({"training_file": "file-none"}, "training_file"),
        ({"training_file": foreign_file}, "training_file"),
        ({"training_file": stack.insert_file(purpose="batch").id}, "training_file"),
        ({"task": "embedding"}, "task"),
        ({"columns": {"nothing": "x"}}, "columns.nothing"),
        ({"unknown": 1}, "unknown"),
    ]
    for path in (PREFLIGHT_PATH, PREVIEW_PATH):
        for changes, param in cases:
            body = _build_body(file_id) | changes
            error = assert_error(http.post(path, json=body), 400)
            assert error == assert_error(http.post("/v1/fine_tuning/jobs", json=body), 400)
            assert error["param"] == param
    for rows in (0, 21, "3"):
        assert assert_error(http.post(PREVIEW_PATH, json=_build_body(file_id, rows=rows)), 400)["param"] == "rows"
    assert assert_error(http.post(PREFLIGHT_PATH, json=_build_body(file_id, rows=3)), 400)["param"] == "rows"


def test_missing_bytes(stack: Stack, http: httpx.Client) -> None:
    assert (
        assert_error(http.post(PREFLIGHT_PATH, json=_build_body(stack.insert_file().id)), 400)["code"] == "file_damaged"
    )


def test_the_preview(stack: Stack, http: httpx.Client, file_id: str) -> None:
    before = _count_rows(stack)
    preview = http.post(PREVIEW_PATH, json=_build_body(file_id, rows=2)).json()
    assert (preview["object"], preview["model"], preview["task"], len(preview["data"])) == (
        "list",
        "starter",
        "chat",
        2,
    )
    [sequence] = preview["data"][1]["sequences"]
    assert sequence["rendered"] == "<|user|>Number 1?<|end|>\n<|assistant|>Yes.<|end|>\n"
    assert "".join(token["text"] for token in sequence["tokens"]) == sequence["rendered"]
    assert "".join(token["text"] for token in sequence["tokens"] if token["trained"]) == "Yes.<|end|>"
    assert set(sequence["tokens"][0]) == {"token", "text", "trained", "weight"}
    assert _count_rows(stack) == before


def test_a_preview_of_invalid_rows_only(stack: Stack, http: httpx.Client) -> None:
    error = assert_error(http.post(PREVIEW_PATH, json=_build_body(_upload_file(stack, b"nothing\n"))), 400)
    assert (error["param"], error["code"]) == ("training_file", "invalid_dataset")
    assert "line 1" in error["message"]


def test_other_requests_are_served_in_the_meantime(stack: Stack, http: httpx.Client, file_id: str) -> None:
    """The server runs a few preflights at a time, and other requests do not wait for them."""
    with ThreadPoolExecutor(6) as pool, stack.open_http() as other:
        preflights = [pool.submit(http.post, PREFLIGHT_PATH, json=_build_body(file_id)) for _ in range(6)]
        latencies = []
        while not all(preflight.done() for preflight in preflights):
            start = time.monotonic()
            assert other.get("/v1/models").status_code == 200
            latencies.append(time.monotonic() - start)
        assert [preflight.result().status_code for preflight in preflights] == [200] * 6
    assert max(latencies) < 2


def _list_preflight_processes() -> list[psutil.Process]:
    """Return the preflight processes: the children of the fork servers."""
    children = psutil.Process(os.getpid()).children()
    parents = [process for process in children if "jobs.runner.forkserver" in process.cmdline()]
    return [child for parent in parents for child in parent.children()]


def test_a_client_that_disconnects_ends_the_process(stack: Stack, http: httpx.Client) -> None:
    large = _upload_file(stack, ROWS * 8_000)
    with ThreadPoolExecutor(1) as pool, stack.open_http() as impatient_http:
        preflight = pool.submit(impatient_http.post, PREFLIGHT_PATH, json=_build_body(large), timeout=1.5)
        wait_for(_list_preflight_processes, 10)
        with pytest.raises(httpx.ReadTimeout):
            preflight.result()
    wait_for(lambda: not _list_preflight_processes(), 10)
    assert not list(stack.settings.work_dir.glob("*"))


def test_a_preflight_that_takes_too_long(stack: Stack, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    large = _upload_file(stack, ROWS * 8_000)
    monkeypatch.setattr("jobs.preflight.TIMEOUT_SECONDS", 1.0)
    response = http.post(PREFLIGHT_PATH, json=_build_body(large))
    assert assert_error(response, 400)["code"] == "preflight_timeout"
    assert response.headers["x-should-retry"] == "false"
