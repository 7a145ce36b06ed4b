"""Luthier's training process as the service runs it: a folder with a spec, and the events it
prints.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.trainer_comparison import subprocesses
from benchmarks.trainer_comparison.config import Outcome, TrainerConfig, build_outcome, read_rows, to_prompt_completion
from benchmarks.trainer_comparison.subprocesses import ProcessResult
from training.run_events import Failure, Metrics, RunEvent, Started, parse_event
from training.spec import TrainSpec


def run(config: TrainerConfig) -> Outcome:
    """Train and return the outcome. Targets are 0, because the run events do not report them."""
    write_run_folder(config)
    result = run_training(config.folder, config.threads)
    steps = [event for _, event in parse_events(result) if isinstance(event, Metrics)]
    # The process's clock starts with the first step. Tokens divided by tokens per second recover
    # it.
    ends = [step.tokens / (step.tokens_per_second or 1.0) for step in steps]
    tokens = [step.tokens for step in steps]
    counts = [(after - before, 0) for before, after in zip([0, *tokens], tokens, strict=False)]
    [started] = [event for _, event in parse_events(result) if isinstance(event, Started)]
    settings = {
        "dtype": started.dtype,
        "threads": started.threads,
        "trainable": started.trainable_parameters,
        "allocator": config.settings.allocator,
    }
    outcome = build_outcome(ends, counts, [step.train_loss for step in steps], settings)
    return outcome.model_copy(update={"peak_bytes": result.peak_bytes})


def write_run_folder(config: TrainerConfig) -> None:
    """Write the spec and the rows. Settings that ``TrainerConfig`` does not have stay ``auto``."""
    rows = [
        {"messages": [*prompt, *completion]} for prompt, completion in map(to_prompt_completion, read_rows(config.rows))
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_spec(
        config.folder,
        text,
        base=config.base,
        base_id="comparison",
        task="chat",
        training_file="rows.jsonl",
        update={"type": "lora", "rank": config.rank, "alpha": config.alpha, "dropout": 0.0},
        seed=config.seed,
        threads=config.threads,
        hyperparameters={
            "n_epochs": config.epochs,
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "lr_scheduler": "linear",
            "warmup_ratio": 0.0,
        },
    )


def write_spec(folder: Path, rows: str, **spec: Any) -> None:
    """Write a folder that the training process can run. ``rows`` is the training file's text."""
    folder.mkdir(parents=True)
    (folder / spec["training_file"]).write_text(rows, encoding="utf-8")
    TrainSpec.model_validate(spec).write(folder)


def run_training(folder: Path, threads: int) -> ProcessResult:
    """Run the training process. Raises ``SystemExit`` if the run fails."""
    result = subprocesses.run("training.run", folder, threads=threads, log=folder / "log")
    for _, event in parse_events(result):
        if isinstance(event, Failure):
            raise SystemExit(f"Luthier's run failed: {event.code}: {event.message}")
    return result


def parse_events(result: ProcessResult) -> list[tuple[float, RunEvent]]:
    """Parse the run events, each with the time at which it arrived."""
    return [(at, parse_event(line)) for at, line in result.lines]
