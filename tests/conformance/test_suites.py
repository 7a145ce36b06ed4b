"""Tests of the runner of the clients' own tests, which ``make conformance`` runs."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from tests.conformance.environments import Result, run_suite
from tests.conformance.suites import run
from tests.conformance.suites.rows import CONTENT
from tests.conformance.suites.server import run_suite_server

pytestmark = pytest.mark.integration

SUITE_SOURCE = """
import pytest

def test_good(): pass

def test_known(): raise ValueError("known reason")

@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_half_known(mode): assert mode == "loose", "known reason"

def test_another_failure(): raise ValueError("another reason")

def test_good_after_all(): pass

def test_bad(): raise ValueError("known reason")

@pytest.mark.skip(reason="not today")
def test_left_out(): pass
"""

DIFFERENCES = [
    ("::test_known", "known reason", "why it fails"),
    ("::test_half_known(strict)", "known reason", "why it fails"),
    ("::test_another_failure", "known reason", "why it fails"),
    ("::test_good_after_all", "known reason", "why it fails"),
]


@pytest.fixture(scope="module")
def server_urls() -> Iterator[dict[str, str]]:
    # Not pytest's tmp_path: a unix socket's path has at most 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_suite_server(Path(home), ["a-chat-model"], ["an-encoder"]) as urls,
    ):
        yield urls


def test_the_rows_are_reset(server_urls: dict[str, str]) -> None:
    response = httpx.post(f"http://{server_urls['reset_address']}/")
    with OpenAI(base_url=server_urls["url"], api_key="My API Key", max_retries=0) as client:
        assert response.status_code == 204
        client.files.delete("file_id")
        client.uploads.complete("upload_abc123", part_ids=["string"])
        assert client.fine_tuning.jobs.cancel("ft-AF1WoRqd3aJAHsqc9NY7iL8F").status == "cancelled"
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve("file_id")
        httpx.post(f"http://{server_urls['reset_address']}/")
        assert client.files.content("file_id").read() == CONTENT
        assert client.uploads.complete("upload_abc123", part_ids=["string"]).status == "completed"
        assert client.fine_tuning.jobs.retrieve("ft-AF1WoRqd3aJAHsqc9NY7iL8F").status == "queued"


def test_a_real_engine_answers_by_the_names_of_the_tests(server_urls: dict[str, str]) -> None:
    httpx.post(f"http://{server_urls['reset_address']}/")
    with OpenAI(base_url=server_urls["url"], api_key="My API Key", max_retries=0) as client:
        completion = client.chat.completions.create(
            model="a-chat-model", messages=[{"role": "user", "content": "Hi"}], max_tokens=3
        )
        assert completion.usage is not None
        assert completion.usage.completion_tokens <= 3
        assert len(client.embeddings.create(model="an-encoder", input="Hi").data[0].embedding) == 384


def test_differences_must_fail_for_their_reasons(server_urls: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(SUITE_SOURCE)
    result = _run_tests(server_urls["reset_address"], tmp_path)
    assert (result.passed, result.failed, result.absent) == (2, 3, 3)
    failed = {check["check"].partition("::")[2] for check in result.checks if check["outcome"] == "failed"}
    assert failed == {"test_another_failure", "test_good_after_all", "test_bad"}
    absent = {check["check"]: check["detail"] for check in result.checks if check["outcome"] == "absent"}
    assert absent["::test_half_known(strict)"] == "why it fails (1)"
    assert set(absent) == {"::test_known", "::test_half_known(strict)", "not today"}


def test_a_file_that_cannot_be_read_is_a_failure(server_urls: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("import nothing_of_that_name")
    assert _run_tests(server_urls["reset_address"], tmp_path).failed == 1


def _run_tests(reset_address: str, folder: Path) -> Result:
    environment = {
        **os.environ,
        # This environment's plugins do not belong to the suite and take seconds to load.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(Path(run.__file__).parent / "inside"),
        "LUTHIER_SUITE": json.dumps({"reset_address": reset_address, "differences": DIFFERENCES}),
    }
    return run_suite([sys.executable, "-m", "pytest", *run.PYTEST_OPTIONS, folder], cwd=folder, env=environment)
