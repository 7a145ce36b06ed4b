"""``make quickstart``: the whole of Luthier once, on this machine, through the official ``openai`` client.

Starts a stack of its own (``.quickstart/``, a free port), trains a chat adapter on the starter and a text classifier
on minilm-l6, asks the base and the tuned model the same held-out questions, and stops. The last line is JSON.
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
    console.print(f"Done in {time.monotonic() - began:.0f} s. `make up` leaves a stack of your own running.")
    print(json.dumps(summary))


def tune_chat_model(client: OpenAI, console: Console) -> dict[str, Any]:
    """A LoRA adapter that answers in the voice of ``chat_train.jsonl``."""
    console.rule("[bold]1. A chat model that speaks like a sailor")
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

    table = Table("held-out question", "starter", "tuned", show_lines=True)
    answers = []
    for question in _read_questions():
        pair = {
            name: _ask_model(client, model, question) for name, model in (("base", "starter"), ("tuned", run.model))
        }
        answers.append({"question": question, **pair})
        table.add_row(question, pair["base"], f"[green]{pair['tuned']}[/]")
    console.print(table)
    return {**run.to_dict(), "answers": answers}


def _read_questions() -> list[str]:
    rows = [json.loads(line) for line in (DATA / "chat_heldout.jsonl").read_text().splitlines()]
    return [row["messages"][0]["content"] for row in rows[:QUESTION_COUNT]]


def _ask_model(client: OpenAI, model: str, question: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=48
    )
    return answer.choices[0].message.content or ""


def tune_classifier(client: OpenAI, console: Console) -> dict[str, Any]:
    """A classifier of support messages, scored on rows that it has not seen."""
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
    right = sum(item["label"] == row["label"] for item, row in zip(data, rows, strict=True))
    majority = Counter(row["label"] for row in rows).most_common(1)[0][1]
    console.print(
        f"  held-out accuracy [bold green]{right / len(rows):.1%}[/] on {len(rows)} rows; "
        f"always the commonest label: {majority / len(rows):.1%}"
    )
    return {**run.to_dict(), "accuracy": right / len(rows), "majority": majority / len(rows)}


if __name__ == "__main__":
    main()
