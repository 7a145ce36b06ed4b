"""Fine-tune ``stories260k`` to a chat model through the API, on instruction rows from TinyStories.

The script registers the base in its own home, as an operator would. Data and model:
``../shared/data/tinystories`` (CDLA-Sharing-1.0) and ``../shared/models/stories260k`` (MIT).
Neither is part of this repository.
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
# The model was trained with <s> between stories and without </s>, so <s> ends a turn.
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
"""Maximum characters of an answer. The context is 512 tokens of about two characters."""


def main() -> None:
    console = Console()
    if not STORIES.exists():
        raise SystemExit(f"{STORIES} does not exist; put the TinyStories sample there")
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        home = Path(folder)
        register_model(home)
        rows = build_instruction_rows()
        files = {"train": rows[:-HELD_OUT_ROWS], "valid": rows[-HELD_OUT_ROWS:]}
        for name, split in files.items():
            (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in split))
        with run_stack(home, console) as client:
            metrics = tune(client, home, files["valid"][0], console)
    write_result("tinystories", "python -m examples.tinystories", {"rows": len(files["train"]), **metrics})


def register_model(home: Path) -> None:
    """Copy the model into ``home``, add a chat template, and register it in ``models.toml``."""
    shutil.copytree(MODEL, home / "stories260k", ignore=shutil.ignore_patterns("LICENSE", "*.md"))
    config = home / "stories260k" / "tokenizer_config.json"
    config.chmod(0o644)
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": CHAT_TEMPLATE}))
    (home / "models.toml").write_text(
        '[stories260k]\npath = "stories260k"\ntasks = ["chat"]\nparameters = 260_032\ncontext = 512\nlicense = "MIT"\n'
    )


def build_instruction_rows() -> list[dict[str, Any]]:
    """Build rows such as "Tell me about a dog." with a story's sentences from the first dog on as
    the answer.
    """
    rows = []
    for story in STORIES.read_text(encoding="utf-8").split("<|endoftext|>")[:-1]:
        sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", story).strip())
        for subject in SUBJECTS:
            start = next((index for index, text in enumerate(sentences) if re.search(rf"\b{subject}\b", text)), None)
            if start is not None:
                answer = " ".join(sentences[start : start + 4])[:MAX_ANSWER_CHARS]
                question = {"role": "user", "content": f"Tell me about a {subject}."}
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
    valid = [round(checkpoint.metrics.valid_loss or 0.0, 4) for checkpoint in reversed(checkpoints)]
    console.print(f"validation loss after each saved checkpoint: {valid}")

    question = held_out["messages"][:1]
    table = Table("model", f"answer to: {question[0]['content']}", show_lines=True)
    answers = {}
    for name, model in (("stories260k", "stories260k"), ("tuned", run.model)):
        completion = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=80)
        answers[name] = completion.choices[0].message.content
        table.add_row(name, answers[name])
    console.print(table)
    return {**run.to_dict(), "valid_losses": valid, "question": question[0]["content"], "answers": answers}


if __name__ == "__main__":
    main()
