"""The ``openai`` command of the client's version 1 (the later ones have none): upload, train, look, ask, delete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.tools.server_info import Place, report, until_ended


def run(place: Place, *words: str) -> str:
    command = [str(Path(sys.executable).with_name("openai")), "api", *words]
    environment = {**os.environ, "OPENAI_BASE_URL": place.url, "OPENAI_API_KEY": place.key}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert ran.returncode == 0, f"{' '.join(words)}: {ran.stdout[-300:]} {ran.stderr[-300:]}"
    return ran.stdout


def run_json(place: Place, *words: str) -> Any:
    return json.loads(run(place, *words))


def models(place: Place) -> None:
    assert place.base in run(place, "models.list")
    assert run_json(place, "models.retrieve", "-i", place.base)["id"] == place.base


def chat(place: Place) -> None:
    said = run(place, "chat.completions.create", "-m", place.base, "-g", "user", "Say hello.", "-t", "0", "-M", "12")
    streamed = run(
        place,
        "chat.completions.create",
        "-m",
        place.base,
        "-g",
        "user",
        "Say hello.",
        "-t",
        "0",
        "-M",
        "12",
        "--stream",
    )
    assert said.strip()
    assert said.strip() == streamed.strip()


def a_job_from_file_to_answer(place: Place) -> None:
    file = run_json(place, "files.create", "-f", place.rows, "-p", "fine-tune")["id"]
    hyperparameters = json.dumps({"n_epochs": 1})
    made = ("-m", place.base, "-F", file, "-s", "command", "-H", hyperparameters)
    job = run_json(place, "fine_tuning.jobs.create", *made)["id"]
    assert job in run(place, "fine_tuning.jobs.list", "-l", "5")
    model = until_ended(place, job)["fine_tuned_model"]
    assert run_json(place, "fine_tuning.jobs.retrieve", "-i", job)["fine_tuned_model"] == model
    assert "step" in run(place, "fine_tuning.jobs.list_events", "-i", job, "-l", "50")
    assert run(place, "chat.completions.create", "-m", model, "-g", "user", "Say hello.", "-M", "12").strip()
    assert run_json(place, "models.delete", "-i", model)["deleted"]


if __name__ == "__main__":
    checks = (models, chat, a_job_from_file_to_answer)
    report("openai", {check.__name__: check for check in checks})
