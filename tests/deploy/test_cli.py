"""The rest of ``luthierd``, as an operator types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from storage.settings import REPOSITORY_ROOT


def run_luthierd(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.luthierd", *arguments, "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY_ROOT,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def test_keys_are_created_listed_and_revoked(tmp_path: Path) -> None:
    assert run_luthierd("migrate", home=tmp_path).returncode == 0
    key = run_luthierd("keys", "create", "--name", "ci", "--project", "apes", home=tmp_path).stdout.strip()
    assert re.fullmatch(r"sk-luthier-\w{32}", key)
    listed = run_luthierd("keys", "list", home=tmp_path).stdout
    assert key not in listed
    for word in ("apes", "ci", "in force", key[:14]):
        assert word in listed
    key_id = re.search(r"key_\w{24}", listed)
    assert key_id is not None
    assert run_luthierd("keys", "revoke", key_id[0], home=tmp_path).returncode == 0
    assert "revoked" in run_luthierd("keys", "list", home=tmp_path).stdout
    again = run_luthierd("keys", "revoke", key_id[0], home=tmp_path)
    assert again.returncode == 1
    assert "keys list" in again.stderr


def test_keys_have_roles_and_an_end(tmp_path: Path) -> None:
    assert run_luthierd("migrate", home=tmp_path).returncode == 0
    made = run_luthierd("keys", "create", "--role", "read", "--expires-days", "0.5", home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert run_luthierd("keys", "create", "--role", "root", home=tmp_path).returncode == 2
    listed = run_luthierd("keys", "list", home=tmp_path).stdout
    assert "read" in listed
    assert "until 20" in listed


def test_models_are_listed_and_checked(tmp_path: Path) -> None:
    listed = run_luthierd("models", "list", home=tmp_path).stdout
    for name in ("starter", "minilm-l6", "qwen3-0.6b", "gpt-4o-mini-2024-07-18"):
        assert name in listed
    checked = run_luthierd("models", "check", home=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "starter: " in checked.stdout
    unknown = run_luthierd("models", "check", "nothing", home=tmp_path)
    assert unknown.returncode == 2
    assert "models list" in unknown.stderr


def test_an_unreachable_hub_is_reported_in_a_line(tmp_path: Path) -> None:
    ran = run_luthierd("models", "pull", "smollm2-135m", home=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 1
    assert "HuggingFaceTB/SmolLM2-135M-Instruct was not pulled" in ran.stdout
    assert "Traceback" not in ran.stderr
    assert run_luthierd("models", "pull", "starter", home=tmp_path).returncode == 0


def test_the_doctor_names_what_does_not_answer(tmp_path: Path) -> None:
    ran = run_luthierd("doctor", home=tmp_path)
    assert ran.returncode == 1
    assert "✓ database" in ran.stdout
    assert "✓ blobs" in ran.stdout
    assert "✗ redis" in ran.stdout
    assert "✗ engine" in ran.stdout
    assert "device: " in ran.stdout
