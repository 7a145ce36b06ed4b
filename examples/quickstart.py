"""``make quickstart``: a complete tour of Luthier on this machine, through the official ``openai``
client.

The script starts its own stack (``.quickstart/``, a free port), trains a chat adapter on the
starter and a text classifier on minilm-l6, asks the base and the fine-tuned model the same held-out
questions, and stops the stack. The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.table import Table

from examples.stack import run_stack
from examples.watch import format_sparkline, upload, watch

EXAMPLES = Path(__file__).parent
DATA = EXAMPLES / "data"
HOME = EXAMPLES.parent / ".quickstart"
QUESTION_COUNT = 5


def main() -> None:
    console = Console()
    began = time.monotonic()
    with run_stack(HOME, console) as client:
        summary = {"chat": tune_chat_model(client, console), "classification": tune_classifier(client, console)}
    console.print(f"Done in {time.monotonic() - began:.0f} s. `make up` starts a stack that keeps running.")
    print(json.dumps(summary))


def tune_chat_model(client: OpenAI, console: Console) -> dict[str, Any]:
    """Train a LoRA adapter that answers in the style of ``chat_train.jsonl``."""
    console.rule("[bold]1. A chat model that talks like a sailor")
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model="starter",
        training_file=upload(client, DATA / "chat_train.jsonl"),
        validation_file=upload(client, DATA / "chat_heldout.jsonl"),
        suffix="sailor",
        seed=1,
    )
    run = watch(client, job.id, console, posted)
    console.print(f"  loss {format_sparkline(run.losses)}  {run.losses[0]:.2f} → {run.losses[-1]:.2f}")

    table = Table("held-out question", "starter", "fine-tuned", show_lines=True)
    answers = []
    for question in _read_questions():
        completions = {
            name: _ask_model(client, model, question) for name, model in (("base", "starter"), ("tuned", run.model))
        }
        answers.append({"question": question, **completions})
        table.add_row(question, completions["base"], f"[green]{completions['tuned']}[/]")
    console.print(table)
    return {**run.to_dict(), "answers": answers}


def _read_questions() -> list[str]:
    rows = [json.loads(line) for line in (DATA / "chat_heldout.jsonl").read_text().splitlines()]
    return [row["messages"][0]["content"] for row in rows[:QUESTION_COUNT]]


def _ask_model(client: OpenAI, model: str, question: str) -> str:
    completion = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=48
    )
    return completion.choices[0].message.content or ""


def tune_classifier(client: OpenAI, console: Console) -> dict[str, Any]:
    """Train a classifier of support messages and evaluate it on held-out rows."""
    console.rule("[bold]2. A classifier of support messages")
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model="minilm-l6",
        training_file=upload(client, DATA / "support_train.jsonl"),
        suffix="intents",
        seed=1,
    )
    run = watch(client, job.id, console, posted)
    console.print(f"  loss {format_sparkline(run.losses)}  {run.losses[0]:.2f} → {run.losses[-1]:.2f}")

    rows = [json.loads(line) for line in (DATA / "support_heldout.jsonl").read_text().splitlines()]
    body = {"model": run.model, "inputs": [row["text"] for row in rows], "top_k": 1}
    data = client.post("/predictions", body=body, cast_to=object)["data"]  # type: ignore[index]
    correct = sum(item["label"] == row["label"] for item, row in zip(data, rows, strict=True))
    majority = Counter(row["label"] for row in rows).most_common(1)[0][1]
    console.print(
        f"  held-out accuracy [bold green]{correct / len(rows):.1%}[/] on {len(rows)} rows; "
        f"always the most common label: {majority / len(rows):.1%}"
    )
    return {**run.to_dict(), "accuracy": correct / len(rows), "majority": majority / len(rows)}


if __name__ == "__main__":
    main()
