"""Commands of ``luthierd`` other than ``up``.

Most run in the test's process, because importing the command takes seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy import luthierd
from storage.settings import REPOSITORY_ROOT
from tests.tiny import create_tiny_chat_base

pytestmark = pytest.mark.integration


def run_luthierd(*arguments: str, home: Path, **environment: str) -> Result:
    return CliRunner().invoke(
        luthierd.app, [*arguments, "--home", str(home)], env={"COLUMNS": "160", **environment}, prog_name="luthierd"
    )


def run_luthierd_process(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.luthierd", *arguments, "--home", str(home)]
    variables = {**os.environ, "COLUMNS": "160", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY_ROOT, env=variables)


def test_the_command_runs_as_a_process(tmp_path: Path) -> None:
    assert run_luthierd("migrate", home=tmp_path).exit_code == 0
    key = run_luthierd("keys", "create", home=tmp_path).stdout.strip()
    listing = run_luthierd_process("keys", "list", home=tmp_path)
    assert listing.returncode == 0, listing.stderr
    assert key[:14] in listing.stdout


def test_keys_are_created_listed_and_revoked(tmp_path: Path) -> None:
    assert run_luthierd("migrate", home=tmp_path).exit_code == 0
    key = run_luthierd("keys", "create", "--name", "ci", "--project", "apes", home=tmp_path).stdout.strip()
    assert re.fullmatch(r"sk-luthier-\w{32}", key)
    listing = run_luthierd("keys", "list", home=tmp_path).stdout
    assert key not in listing
    for text in ("apes", "ci", "in force", key[:14]):
        assert text in listing
    key_id = re.search(r"key_\w{24}", listing)
    assert key_id is not None
    assert run_luthierd("keys", "revoke", key_id[0], home=tmp_path).exit_code == 0
    assert "revoked" in run_luthierd("keys", "list", home=tmp_path).stdout
    again = run_luthierd("keys", "revoke", key_id[0], home=tmp_path)
    assert again.exit_code == 1
    assert "keys list" in again.stderr


def test_keys_have_roles_and_an_expiry_date(tmp_path: Path) -> None:
    assert run_luthierd("migrate", home=tmp_path).exit_code == 0
    created = run_luthierd("keys", "create", "--role", "read", "--expires-days", "0.5", home=tmp_path)
    assert created.exit_code == 0, created.stderr
    assert run_luthierd("keys", "create", "--role", "root", home=tmp_path).exit_code == 2
    listing = run_luthierd("keys", "list", home=tmp_path).stdout
    assert "read" in listing
    assert "until 20" in listing


def test_models_are_listed_and_checked(tmp_path: Path) -> None:
    listing = run_luthierd("models", "list", home=tmp_path).stdout
    for name in ("starter", "minilm-l6", "qwen3-0.6b", "gpt-4o-mini-2024-07-18"):
        assert name in listing
    checked = run_luthierd("models", "check", home=tmp_path)
    assert checked.exit_code == 0, checked.stdout
    assert "starter: " in checked.stdout
    unknown = run_luthierd("models", "check", "nothing", home=tmp_path)
    assert unknown.exit_code == 2
    assert "models list" in unknown.stderr


def test_a_model_that_cannot_be_used_fails_the_check_with_the_reason(tmp_path: Path) -> None:
    base = create_tiny_chat_base(tmp_path / "base")
    entry = 'tasks = ["chat", "question-answering"]\nparameters = 1\ncontext = 64\nlicense = "none"\n'
    (tmp_path / "models.toml").write_text(f'[tiny]\npath = "base"\n{entry}')
    checked = run_luthierd("models", "check", "tiny", home=tmp_path)
    assert checked.exit_code == 1
    assert "tiny cannot be used for question-answering: It reads from left to right" in checked.stdout
    assert "chat:" not in checked.stdout
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}
    (base / "config.json").write_text(json.dumps(config))
    checked = run_luthierd("models", "check", "tiny", home=tmp_path)
    assert "tiny cannot be used for chat: Its weights are quantized ('mxfp4'" in checked.stdout


def test_an_unreachable_hub_is_reported_without_a_traceback(tmp_path: Path) -> None:
    # A process of its own: the hub's client reads its endpoint when it is imported.
    process = run_luthierd_process("models", "pull", "smollm2-135m", home=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert process.returncode == 1
    assert "HuggingFaceTB/SmolLM2-135M-Instruct was not pulled" in process.stdout
    assert "Traceback" not in process.stderr
    assert run_luthierd("models", "pull", "starter", home=tmp_path).exit_code == 0


def test_the_doctor_reports_services_that_do_not_respond(tmp_path: Path) -> None:
    process = run_luthierd("doctor", home=tmp_path)
    assert process.exit_code == 1
    assert "✓ database" in process.stdout
    assert "✓ blobs" in process.stdout
    assert "✗ redis" in process.stdout
    assert "✗ engine" in process.stdout
    assert "device: " in process.stdout
