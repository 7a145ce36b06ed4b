"""The ``openai`` command, which only version 1 of the client has: files, jobs, models and chats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.tools.server_info import ServerInfo, run_checks, wait_for_job


def run_command(server: ServerInfo, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("openai")), "api", *arguments]
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": server.key}
    completed = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert completed.returncode == 0, f"{' '.join(arguments)}: {completed.stdout[-300:]} {completed.stderr[-300:]}"
    return completed.stdout


def run_json(server: ServerInfo, *arguments: str) -> Any:
    return json.loads(run_command(server, *arguments))


def check_models(server: ServerInfo) -> None:
    assert server.base in run_command(server, "models.list")
    assert run_json(server, "models.retrieve", "-i", server.base)["id"] == server.base


def check_chat(server: ServerInfo) -> None:
    output = run_command(
        server, "chat.completions.create", "-m", server.base, "-g", "user", "Say hello.", "-t", "0", "-M", "12"
    )
    streamed_output = run_command(
        server,
        "chat.completions.create",
        "-m",
        server.base,
        "-g",
        "user",
        "Say hello.",
        "-t",
        "0",
        "-M",
        "12",
        "--stream",
    )
    assert output.strip()
    assert output.strip() == streamed_output.strip()


def check_job_from_file_to_completion(server: ServerInfo) -> None:
    file = run_json(server, "files.create", "-f", server.rows, "-p", "fine-tune")["id"]
    hyperparameters = json.dumps({"n_epochs": 1})
    options = ("-m", server.base, "-F", file, "-s", "command", "-H", hyperparameters)
    job = run_json(server, "fine_tuning.jobs.create", *options)["id"]
    assert job in run_command(server, "fine_tuning.jobs.list", "-l", "5")
    model = wait_for_job(server, job)["fine_tuned_model"]
    assert run_json(server, "fine_tuning.jobs.retrieve", "-i", job)["fine_tuned_model"] == model
    assert "step" in run_command(server, "fine_tuning.jobs.list_events", "-i", job, "-l", "50")
    assert run_command(server, "chat.completions.create", "-m", model, "-g", "user", "Say hello.", "-M", "12").strip()
    assert run_json(server, "models.delete", "-i", model)["deleted"]


if __name__ == "__main__":
    checks = (check_models, check_chat, check_job_from_file_to_completion)
    run_checks("openai", {check.__name__: check for check in checks})
