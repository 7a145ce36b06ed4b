"""The ``luthier`` command."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.cli.completion import SHELLS, get_completions
from luthier.cli.main import build_parser, main
from luthier.cli.table import COMMANDS
from tests.api.stack import Stack
from tests.sdk.simulated_worker import run_worker

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10


class Shell:
    """Runner that calls commands for one project and returns their output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: str) -> str:
        main(arguments)
        return self._capsys.readouterr().out

    def run_json(self, *arguments: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def run_failing(self, *arguments: str) -> str:
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        return f"{raised.value.code} {self._capsys.readouterr().err}"


@pytest.fixture
def shell(fresh_stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("LUTHIER_BASE_URL", f"{fresh_stack.url}/v1")
    monkeypatch.setenv("LUTHIER_API_KEY", fresh_stack.tenant.key)
    return Shell(capsys)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


def test_files(shell: Shell, rows: Path, tmp_path: Path) -> None:
    file_id = shell.run("files", "upload", str(rows)).strip()
    assert file_id.startswith("file-")
    assert file_id in shell.run("files", "list")
    (listed,) = shell.run_json("files", "list")
    assert (listed["id"], listed["bytes"]) == (file_id, len(ROWS))
    shell.run("files", "download", file_id, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == ROWS
    assert "deleted" in shell.run("files", "delete", file_id)
    assert shell.run_json("files", "list") == []


def test_a_job_from_a_path_followed_to_its_end(shell: Shell, fresh_stack: Stack, rows: Path) -> None:
    command = ["jobs", "create", "--model", "starter", "--training-file", str(rows), "--suffix", "mine", "--seed", "3"]
    with run_worker(fresh_stack):
        (job,) = shell.run_json(*command, "--set", "n_epochs=2", "--metadata", "who=me", "--update", "lora", "--watch")
    assert (job["status"], job["seed"], job["metadata"]) == ("succeeded", 3, {"who": "me"})
    assert job["hyperparameters"]["n_epochs"] == 2  # type: ignore[index]
    assert str(job["fine_tuned_model"]) in shell.run("jobs", "list")
    assert "trained_tokens" not in shell.run("jobs", "show", str(job["id"]))
    logs = shell.run("jobs", "logs", str(job["id"])).splitlines()
    assert logs[-1].endswith("step 4/4")
    assert str(job["fine_tuned_model"]) in shell.run("models", "list")
    assert [step["step"] for step in shell.run_json("jobs", "metrics", str(job["id"]))] == [1, 2, 3, 4]
    assert shell.run("jobs", "metrics", str(job["id"])).splitlines()[-1] == "loss 2.000 █▃▁▁ 0.500"
    assert "succeeded: ft:starter" in shell.run("jobs", "watch", str(job["id"]))


def test_a_job_is_paused_resumed_and_cancelled(shell: Shell, rows: Path) -> None:
    job = shell.run("jobs", "create", "--model", "starter", "--training-file", str(rows)).strip()
    assert shell.run("jobs", "pause", job) == f"{job} paused\n"
    assert shell.run("jobs", "resume", job).split()[1] in {"validating_files", "queued"}
    assert shell.run("jobs", "cancel", job) == f"{job} cancelled\n"
    error = shell.run_failing("jobs", "cancel", job)
    assert "luthier: " in error
    assert "code invalid_state" in error
    assert "request_id req_" in error


def test_dpo_and_a_failed_job(shell: Shell, fresh_stack: Stack, rows: Path) -> None:
    command = ["jobs", "create", "--model", "starter", "--training-file", str(rows), "--method", "dpo"]
    (job,) = shell.run_json(*command, "--set", "beta=0.2")
    assert job["method"]["type"] == "dpo"  # type: ignore[index]
    with run_worker(fresh_stack, fail=True):
        error = shell.run_failing("jobs", "watch", str(job["id"]))
    assert "too_few_rows" in error
    assert "Traceback" not in error


def test_weights(shell: Shell, fresh_stack: Stack, tmp_path: Path) -> None:
    model = fresh_stack.insert_model()
    path = shell.run("models", "download", model.id, str(tmp_path), "--variant", "merged").strip()
    assert Path(path).read_bytes()[:2] == b"PK"


def test_chat_and_predictions(shell: Shell, fresh_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run("chat", "starter", "good", "day") == "You said good day\n"
    (completion,) = shell.run_json("chat", "starter", "hello", "--temperature", "0")
    assert completion["object"] == "chat.completion"
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    assert shell.run("chat", "starter", "--system", "Be kind.") == "You said one\nYou said two\n"
    messages = fresh_stack.engine.requests[-1]["body"]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert shell.run("predict", "encoder", "where is my card") == (
        'where is my card\t{"label": "card", "scores": {"card": 1.0}}\n'
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert [prediction["index"] for prediction in shell.run_json("predict", "encoder")] == [0, 1]


def test_mistakes_are_reported_in_a_line(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "No such file" in shell.run_failing("files", "upload", str(tmp_path / "none"))
    assert "code model_not_found" in shell.run_failing("models", "download", "ft:none", str(tmp_path))
    assert "NAME=VALUE" in shell.run_failing("jobs", "create", "--set", "n_epochs")
    assert "invalid choice" in shell.run_failing("jobs", "crate")
    monkeypatch.delenv("LUTHIER_API_KEY")
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path))
    assert "LUTHIER_API_KEY" in shell.run_failing("models", "list")


def test_every_command_has_help() -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as raised:
            build_parser().parse_args([*command.name.split(), "--help"])
        assert raised.value.code == 0


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        ([""], {"chat", "completion", "files", "jobs", "models", "predict"}),
        (["jo"], {"jobs"}),
        (["jobs", "c"], {"cancel", "create", "checkpoints"}),
        (["jobs", "create", "--mo"], {"--model"}),
        (["jobs", "create", "--method", ""], {"supervised", "dpo"}),
        (["models", "download", "--variant", "m"], {"merged"}),
        (["completion", ""], set(SHELLS)),
        (["jobs", "cancel", ""], set()),
        (["nothing", ""], set()),
    ],
)
def test_completion_candidates(words: list[str], candidates: set[str]) -> None:
    assert set(get_completions(words)) == candidates


def test_bash_completes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    command = tmp_path / "luthier"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m luthier.cli.main "$@"\n')
    command.chmod(0o755)
    variables = "COMP_WORDS=(luthier jobs pa); COMP_CWORD=2"
    script = f'eval "$(luthier completion bash)"; {variables}; _luthier; echo "${{COMPREPLY[@]}}"'
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY / "sdk")}
    result = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["pause"]
