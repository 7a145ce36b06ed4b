"""Check of a base model on this machine: chat template, memory, and a two-step training run.

``python -m training.model_check DIRECTORY ID TEMPLATE TASK…`` prints one JSON array for each part;
TEMPLATE is the name of a chat template or empty. Every part is the code that a job runs, on the
rows of ``training.sample_rows``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from training import run
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.errors import TrainingError
from training.models import base_model
from training.progress import ignore_progress
from training.run_events import Message, Metrics, RunEvent, Started
from training.sample_rows import SAMPLE_ROWS, TEMPLATE_FEATURES
from training.spec import TrainSpec
from training.tasks import TASKS
from training.tasks.base import AnyTask
from training.trainer.device import configure_torch, measure_limits
from training.trainer.failures import to_failure
from training.trainer.prepare import fit_to_device, prepare
from training.trainer.state import StopFlag
from training.updates import UPDATES

TRAINING_FILE = "rows.jsonl"
STEPS = 2


class CheckResult(NamedTuple):
    """Outcome of one part of the check."""

    name: str
    status: Literal["passed", "noted", "failed"]
    """``noted``: a limit of the model that is no error, such as a template without tools."""
    detail: str


@dataclass(frozen=True)
class ModelCheck:
    """Check of one base. ``scratch`` is an empty directory for run folders."""

    base: Path
    base_id: str
    tasks: Sequence[str]
    chat_template: str | None
    """Name of a template that the registry gives the base."""
    scratch: Path

    def iter_results(self) -> Iterator[CheckResult]:
        """Yield the outcome of each part when it has run."""
        for name in self.tasks:
            if TASKS[name].needs_chat_template:
                yield from self._check_template(TASKS[name])
            yield from self._estimate_memory(name)
            yield self._train(name)

    def _check_template(self, task: AnyTask) -> Iterator[CheckResult]:
        """Encode a row with each feature of a conversation as training would."""
        try:
            info = base_model.read_base_model_info(self.base, self.base_id, task, self.chat_template)
        except TrainingError as error:
            yield CheckResult("template", "failed", error.message)
            return
        reader = DatasetReader(RowEncoder(task, info.processor, {}, info.context_length), ignore_progress)
        for feature, row in TEMPLATE_FEATURES.items():
            folder = self.scratch / f"template-{feature.replace(' ', '-')}"
            folder.mkdir()
            (folder / TRAINING_FILE).write_text(json.dumps(row) + "\n", encoding="utf-8")
            data = reader.read(folder / TRAINING_FILE, "training_file")
            detail = "; ".join(error.message for error in data.errors) or "rendered and read back"
            yield CheckResult(f"template: {feature}", "noted" if data.errors else "passed", detail)

    def _estimate_memory(self, task: str) -> Iterator[CheckResult]:
        """Estimate the memory of a step of each update on this device."""
        limits = measure_limits()
        for update in sorted(TASKS[task].updates & UPDATES.keys()):
            folder, spec = self._create_run_folder(f"memory-{task}-{update}", task, update)
            try:
                fit = fit_to_device(spec, prepare(folder, spec, StopFlag()), limits)
            except TrainingError as error:
                yield CheckResult(f"{task}, {update}", "failed", error.message)
            else:
                yield CheckResult(f"{task}, {update}", "passed" if fit.fits else "noted", fit.describe())

    def _train(self, task: str) -> CheckResult:
        """Train a LoRA for two steps and report what the run said of itself."""
        folder, _ = self._create_run_folder(f"train-{task}", task, "lora")
        events: list[RunEvent] = []
        began = time.monotonic()
        try:
            run.train(folder, events.append)
        except Exception as error:
            failure = to_failure(error)
            detail = failure.message if failure else f"{type(error).__name__}: {error}"
            return CheckResult(f"{task}, training", "failed", detail)
        [started] = [event for event in events if isinstance(event, Started)]
        losses = " → ".join(f"{event.train_loss:.3f}" for event in events if isinstance(event, Metrics))
        kernels = " ".join(event.message for event in events if isinstance(event, Message) and event.data)
        detail = (
            f"{STEPS} steps of LoRA on {started.device} in {started.dtype}, loss {losses}, "
            f"{time.monotonic() - began:.1f} s in all. {kernels}"
        )
        return CheckResult(f"{task}, training", "passed", detail)

    def _create_run_folder(self, name: str, task: str, update: str) -> tuple[Path, TrainSpec]:
        folder = self.scratch / name
        folder.mkdir()
        rows = SAMPLE_ROWS[task]
        (folder / TRAINING_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        values: dict[str, Any] = {
            "task": task,
            "update": {"type": update},
            "hyperparameters": {"max_steps": STEPS, "batch_size": min(4, len(rows))},
            "seed": 0,
            "base": self.base,
            "base_id": self.base_id,
            "chat_template": self.chat_template,
            "training_file": TRAINING_FILE,
        }
        spec = TrainSpec.model_validate(values)
        spec.write(folder)
        return folder, spec


def main(directory: Path, base_id: str, chat_template: str, tasks: Sequence[str]) -> None:
    configure_torch(None)
    with tempfile.TemporaryDirectory(prefix="check-") as scratch:
        for result in ModelCheck(directory, base_id, tasks, chat_template or None, Path(scratch)).iter_results():
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
