"""``make bench-banking77``: classify 77 intents of bank customers through the API, with every
update type.

No hyperparameters are sent, unless ``--epochs`` sets the number of epochs.

Data: the published train and test split in ``../shared/data/banking77`` (PolyAI, CC BY 4.0), as
unchanged CSV. Published accuracy: Casanueva et al. 2020, "Efficient Intent Detection with Dual
Sentence Encoders", table 3, full data.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.table import Table

from benchmarks.memory import track_peak_memory
from benchmarks.result import write_result
from examples.stack import run_stack
from examples.watch import format_sparkline, upload, watch

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "banking77"
PUBLISHED_ACCURACY = {
    "BERT-base, tuned whole (Casanueva et al. 2020)": 93.66,
    "USE + ConveRT (Casanueva et al. 2020)": 93.36,
}
UPDATES: dict[str, Any] = {
    "full": {"type": "full"},
    "lora": {"type": "lora", "rank": 16, "alpha": 32},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 2},
}
REQUEST_BATCH_SIZE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", nargs="+", choices=list(UPDATES), default=list(UPDATES), help="update types to run")
    parser.add_argument("--epochs", type=int, help="number of epochs, instead of the automatic choice")
    arguments = parser.parse_args()
    epochs: int | None = arguments.epochs
    console = Console()
    if not DATA.exists():
        raise SystemExit(f"{DATA} does not exist; put the data set there")
    test = _read_rows("test.csv")
    majority = 100 * Counter(label for _, label in test).most_common(1)[0][1] / len(test)
    runs: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="lb") as home, run_stack(Path(home), console) as client:
        file_id = upload(client, DATA / "train.csv")
        for name in arguments.update:
            runs[name] = train(client, file_id, UPDATES[name], {"n_epochs": epochs} if epochs else {}, console)
            command = f"python -m examples.banking77 --update {name}" + (f" --epochs {epochs}" if epochs else "")
            metrics = {**runs[name], "majority": round(majority, 2), "published": PUBLISHED_ACCURACY}
            write_result(f"banking77-{name}" + (f"-{epochs}-epochs" if epochs else ""), command, metrics)

    table = Table("model", "trainable parameters", "test accuracy", "minutes", "peak memory")
    for name, run in runs.items():
        trained, peak = f"{run['trainable_parameters']:,}", f"{run['peak_bytes'] / 2**30:.2f} GiB"
        table.add_row(f"minilm-l6, {name}", trained, f"{run['accuracy']:.2f} %", f"{run['job_s'] / 60:.1f}", peak)
    for name, accuracy in PUBLISHED_ACCURACY.items():
        table.add_row(name, "110 M" if "BERT" in name else "", f"{accuracy:.2f} %", "", "")
    table.add_row("always the most common intent", "0", f"{majority:.2f} %", "", "")
    console.print(table)


def train(
    client: OpenAI, file_id: str, update: dict[str, Any], hyperparameters: dict[str, Any], console: Console
) -> dict[str, Any]:
    console.rule(f"minilm-l6, {update['type']}")
    posted = time.time()
    extra = {"update": update, "columns": {"label": "category"}}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    job = client.fine_tuning.jobs.create(
        model="minilm-l6", training_file=file_id, seed=1, method=method, extra_body=extra
    )
    with track_peak_memory() as peak:
        run = watch(client, job.id, console, posted)
    console.print(f"loss {format_sparkline(run.losses)}  {run.losses[0]:.2f} → {run.losses[-1]:.3f}")
    finished = client.fine_tuning.jobs.retrieve(job.id)
    assert finished.method is not None
    assert finished.method.supervised is not None
    return {
        "accuracy": round(100 * measure_accuracy(client, run.model), 2),
        "trainable_parameters": (finished.model_extra or {})["trainable_parameters"],
        "job_s": round(run.seconds, 1),
        "first_step_s": round(run.first_step_seconds, 2),
        "peak_bytes": peak.bytes,
        "last_loss": run.losses[-1],
        "hyperparameters": finished.method.supervised.to_dict()["hyperparameters"],
    }


def measure_accuracy(client: OpenAI, model: str) -> float:
    """Return the share of test rows that the served model labels correctly."""
    rows = _read_rows("test.csv")
    correct = 0
    for start in range(0, len(rows), REQUEST_BATCH_SIZE):
        batch = rows[start : start + REQUEST_BATCH_SIZE]
        body = {"model": model, "inputs": [text for text, _ in batch], "top_k": 1}
        data: Any = client.post("/predictions", body=body, cast_to=object)
        correct += sum(item["label"] == label for item, (_, label) in zip(data["data"], batch, strict=True))
    return correct / len(rows)


def _read_rows(name: str) -> list[tuple[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
