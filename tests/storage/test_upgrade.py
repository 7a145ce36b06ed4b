"""A home written by an earlier version opens, migrates and continues to work.

``data/home_revision_0004.zip`` was written by the code at schema revision 0004: a finished job with
two published checkpoints, a paused job, a completed batch, an open upload, a webhook, a second
project with a permission, and their blobs. ``facts.json`` in it holds the ids and what the finished
model answered.
"""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage import migrate
from tests import services
from tests.stack import Stack, build_settings, wait_for_job
from tests.tiny import create_tiny_chat_base

pytestmark = pytest.mark.integration

ARCHIVE = Path(__file__).parent / "data" / "home_revision_0004.zip"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(home)
    create_tiny_chat_base(home / "tiny")
    return home


@pytest.fixture(scope="module")
def facts(home: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((home / "facts.json").read_text())
    return facts


@pytest.fixture(scope="module")
def stack(home: Path, facts: dict[str, Any]) -> Iterator[Stack]:
    settings = build_settings(home)
    with services.run_redis(home / "run"), Stack(settings) as stack:
        asyncio.run(migrate.upgrade(settings.database_url))
        stack.key = facts["api_key"]
        stack.start("inference", "worker", "api")
        stack.wait_until_ready()
        yield stack


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {stack.key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.ports['api']}/v1", headers=headers, timeout=60) as http:
        yield http


def test_rows_read_as_they_were(http: httpx.Client, facts: dict[str, Any]) -> None:
    job = http.get(f"/fine_tuning/jobs/{facts['job']}").json()
    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", facts["model"])
    checkpoints = http.get(f"/fine_tuning/jobs/{facts['job']}/checkpoints").json()["data"]
    assert [row["fine_tuned_model_checkpoint"] for row in checkpoints] == facts["checkpoints"]
    events = http.get(f"/fine_tuning/jobs/{facts['job']}/events", params={"limit": 100}).json()["data"]
    assert len(events) == facts["events"]
    batch = http.get(f"/batches/{facts['batch']}").json()
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 3, "failed": 0})
    assert http.get(f"/files/{facts['output_file']}/content").text.count("\n") == 3
    permissions = http.get(f"/fine_tuning/checkpoints/{facts['model']}/permissions").json()["data"]
    assert [permission["project_id"] for permission in permissions] == [facts["other_project"]]
    assert [webhook["name"] for webhook in http.get("/webhook_endpoints").json()["data"]] == ["old"]


def test_the_finished_model_answers_as_before(http: httpx.Client, facts: dict[str, Any]) -> None:
    body = {
        "model": facts["model"],
        "messages": [{"role": "user", "content": "say 3"}],
        "temperature": 0,
        "max_tokens": 12,
    }
    assert http.post("/chat/completions", json=body).json()["choices"][0]["message"]["content"] == facts["answer"]


def test_the_paused_job_resumes_from_its_checkpoint(stack: Stack, http: httpx.Client, facts: dict[str, Any]) -> None:
    paused = http.get(f"/fine_tuning/jobs/{facts['paused_job']}").json()
    assert paused["progress"]["step"] == facts["paused_step"]
    assert http.post(f"/fine_tuning/jobs/{facts['paused_job']}/resume", json={}).status_code == 200
    with stack.wait_until_ready() as client:
        job = wait_for_job(client, facts["paused_job"])
        assert job.status == "succeeded", job.error
        messages = [event.message for event in client.fine_tuning.jobs.list_events(facts["paused_job"], limit=100)]
    assert any(f"resumed at step {facts['paused_step']}" in message for message in messages)
