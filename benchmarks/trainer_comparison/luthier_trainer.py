"""Our training child as users get it: a folder with a spec, and the lines that it prints."""

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
    """Train; targets are left at 0, which its lines do not tell."""
    write_run_folder(config)
    ended = run_training(config.folder, config.threads)
    steps = [line for _, line in parse_events(ended) if isinstance(line, Metrics)]
    # Its clock starts with the first step; tokens and their speed give it back.
    ends = [step.tokens / (step.tokens_per_second or 1.0) for step in steps]
    tokens = [step.tokens for step in steps]
    counts = [(after - before, 0) for before, after in zip([0, *tokens], tokens, strict=False)]
    [started] = [line for _, line in parse_events(ended) if isinstance(line, Started)]
    settings = {"dtype": started.dtype, "threads": started.threads, "trainable": started.trainable_parameters}
    told_outcome = build_outcome(ends, counts, [step.train_loss for step in steps], settings)
    return told_outcome.model_copy(update={"peak_bytes": ended.peak_bytes})


def write_run_folder(config: TrainerConfig) -> None:
    """All that is said beyond the terms is left to ``auto``."""
    rows = [{"messages": [*asked, *answered]} for asked, answered in map(to_prompt_completion, read_rows(config.rows))]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_spec(
        config.folder,
        text,
        base=config.base,
        base_id="contest",
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
    """A folder that the child can run; ``rows`` is the training file's text."""
    folder.mkdir(parents=True)
    (folder / spec["training_file"]).write_text(rows, encoding="utf-8")
    TrainSpec.model_validate(spec).write(folder)


def run_training(folder: Path, threads: int) -> ProcessResult:
    """Raises ``SystemExit`` where the run fails."""
    ended = subprocesses.run("training.run", folder, threads=threads, log=folder / "log")
    for _, line in parse_events(ended):
        if isinstance(line, Failure):
            raise SystemExit(f"our run failed: {line.code}: {line.message}")
    return ended


def parse_events(result: ProcessResult) -> list[tuple[float, RunEvent]]:
    """Its lines, each with the time at which it came."""
    return [(at, parse_event(line)) for at, line in result.lines]
