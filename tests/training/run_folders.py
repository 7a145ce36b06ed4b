"""Helpers that create run folders and record the events of runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training import run, run_events
from training.spec import TrainSpec

Row = dict[str, Any]

CHAT_ROWS: list[Row] = [
    {
        "messages": [
            {"role": "user", "content": f"What is number {number}?" + " Please." * (number % 3)},
            {"role": "assistant", "content": f"It is {'odd' if number % 2 else 'even'}."},
        ]
    }
    for number in range(10)
]
LABEL_ROWS: list[Row] = [
    {"text": f"{word} " * (number % 4 + 1), "label": word} for number in range(8) for word in ("apple", "pear")
]
TASK_ROWS = {"chat": CHAT_ROWS, "text-classification": LABEL_ROWS}

LORA: Row = {"type": "lora", "rank": 4, "dropout": 0.1}
FULL: Row = {"type": "full"}


def to_jsonl(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def create_run_folder(directory: Path, base: Path, task: str, update: Row, **changes: Any) -> Path:
    """Create a folder that is ready to run.

    ``training`` and ``validation`` are rows or the text of a file; other arguments go into the
    spec. The dtype is float32 unless the test sets another, because ``auto`` selects bfloat16 on
    CPUs with units for it.
    """
    directory.mkdir(parents=True)
    values: Row = {"seed": 7, "threads": 1, "base_id": "tiny", **changes}
    values["hyperparameters"] = {"dtype": "float32", **values.get("hyperparameters", {})}
    values |= {"task": task, "update": update, "base": base, "training_file": "training.data"}
    for name, default in (("training", TASK_ROWS.get(task)), ("validation", None)):
        content = values.pop(name, default)
        if content is not None:
            text = content if isinstance(content, str) else to_jsonl(content)
            (directory / f"{name}.data").write_text(text, encoding="utf-8")
            values[f"{name}_file"] = f"{name}.data"
    TrainSpec.model_validate(values).write(directory)
    return directory


@dataclass
class EventRecorder:
    """An ``emit`` callback that stores the events."""

    events: list[run_events.RunEvent] = field(default_factory=list)

    def __call__(self, event: run_events.RunEvent) -> None:
        self.events.append(event)

    def of_type(self, event_type: type[Any]) -> list[Any]:
        return [line for line in self.events if isinstance(line, event_type)]

    @property
    def clock_independent_metrics(self) -> list[tuple[Any, ...]]:
        """Fields of the metrics that do not depend on the clock."""
        timed = {"tokens_per_second", "eta_seconds"}
        return [tuple(line.model_dump(exclude=timed).items()) for line in self.of_type(run_events.Metrics)]


def run_training(folder: Path) -> EventRecorder:
    lines = EventRecorder()
    run.train(folder, lines)
    return lines


def hash_files(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }
