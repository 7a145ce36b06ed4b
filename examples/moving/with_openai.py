"""Fine-tune a model on a file and ask it a question: ``with_openai MODEL FILE QUESTION``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from openai import OpenAI


def main(model: str, path: str, question: str) -> None:
    client = OpenAI()
    with Path(path).open("rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    client.files.wait_for_processing(file.id)
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        suffix="support",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    )
    while job.status not in {"succeeded", "failed", "cancelled"}:
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
        print(job.status, file=sys.stderr)
    if job.status != "succeeded":
        raise SystemExit(job.error.message if job.error else job.status)
    answer = client.chat.completions.create(
        model=job.fine_tuned_model or "", messages=[{"role": "user", "content": question}]
    )
    print(answer.choices[0].message.content)


if __name__ == "__main__":
    main(*sys.argv[1:])
