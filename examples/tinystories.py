"""A chat model from ``stories260k``: instruction rows derived from TinyStories, tuned and asked through the API.

The base is registered by this script in a home of its own, as an operator would register one. Data and model:
``../shared/data/tinystories`` (CDLA-Sharing-1.0) and ``../shared/models/stories260k`` (MIT); neither is copied here.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.table import Table

from benchmarks.result import write_result
from examples.stack import run_stack
from examples.watch import format_sparkline, upload, watch

SHARED = Path(__file__).parent.parent.parent / "shared"
STORIES = SHARED / "data" / "tinystories" / "tinystories_sample.txt"
MODEL = SHARED / "models" / "stories260k"
# The model was trained with <s> between stories and never saw </s>, so <s> is what can end a turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Q: ' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'A: ' + message['content'] + bos_token }}{% else %}"
    "{{ message['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
)
SUBJECTS = (
    "dog",
    "cat",
    "bird",
    "ball",
    "tree",
    "car",
    "fish",
    "bear",
    "flower",
    "cake",
    "boat",
    "frog",
    "bunny",
    "toy",
)
HELD_OUT_ROWS = 60
MAX_ANSWER_CHARS = 320
"""Characters of a story; the model reads 512 tokens of about two characters."""


def main() -> None:
    console = Console()
    if not STORIES.exists():
        raise SystemExit(f"the stories are not at {STORIES}")
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        home = Path(folder)
        register_model(home)
        rows = build_instruction_rows()
        files = {"train": rows[:-HELD_OUT_ROWS], "valid": rows[-HELD_OUT_ROWS:]}
        for name, part in files.items():
            (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        with run_stack(home, console) as client:
            figures = tune(client, home, files["valid"][0], console)
    write_result("tinystories", "python -m examples.tinystories", {"rows": len(files["train"]), **figures})


def register_model(home: Path) -> None:
    """Put the model, with a chat template, where this home's ``models.toml`` names it."""
    shutil.copytree(MODEL, home / "stories260k", ignore=shutil.ignore_patterns("LICENSE", "*.md"))
    config = home / "stories260k" / "tokenizer_config.json"
    config.chmod(0o644)
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": CHAT_TEMPLATE}))
    (home / "models.toml").write_text(
        '[stories260k]\npath = "stories260k"\ntasks = ["chat"]\nparameters = 260_032\ncontext = 512\nlicense = "MIT"\n'
    )


def build_instruction_rows() -> list[dict[str, Any]]:
    """``Tell me about a dog.`` → the sentences of a story from the first that has a dog."""
    rows = []
    for story in STORIES.read_text(encoding="utf-8").split("<|endoftext|>")[:-1]:
        sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", story).strip())
        for thing in SUBJECTS:
            start = next((i for i, text in enumerate(sentences) if re.search(rf"\b{thing}\b", text)), None)
            if start is not None:
                answer = " ".join(sentences[start : start + 4])[:MAX_ANSWER_CHARS]
                question = {"role": "user", "content": f"Tell me about a {thing}."}
                rows.append({"messages": [question, {"role": "assistant", "content": answer}]})
                break
    return rows


def tune(client: OpenAI, home: Path, held_out: dict[str, Any], console: Console) -> dict[str, Any]:
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model="stories260k",
        training_file=upload(client, home / "train.jsonl"),
        validation_file=upload(client, home / "valid.jsonl"),
        seed=1,
        extra_body={"update": {"type": "full"}},
    )
    run = watch(client, job.id, console, posted)
    console.print(f"loss {format_sparkline(run.losses)}  {run.losses[0]:.2f} → {run.losses[-1]:.2f}")
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id, limit=50).data
    valid = [round(point.metrics.valid_loss or 0.0, 4) for point in reversed(checkpoints)]
    console.print(f"validation loss after each kept checkpoint: {valid}")

    question = held_out["messages"][:1]
    table = Table("model", f"answer to: {question[0]['content']}", show_lines=True)
    answers = {}
    for name, model in (("stories260k", "stories260k"), ("tuned", run.model)):
        answer = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=80)
        answers[name] = answer.choices[0].message.content
        table.add_row(name, answers[name])
    console.print(table)
    return {**run.to_dict(), "valid_losses": valid, "question": question[0]["content"], "answers": answers}


if __name__ == "__main__":
    main()
