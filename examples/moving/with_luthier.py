"""Fine-tune a model on a file and ask it a question: ``with_luthier MODEL FILE QUESTION``."""

from __future__ import annotations

import sys
from pathlib import Path

from luthier import Luthier


def main(model: str, path: str, question: str) -> None:
    client = Luthier()
    job = client.jobs.create(
        model=model,
        training_file=Path(path),
        suffix="support",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    )
    job.wait()
    answer = client.chat(job.fine_tuned_model or "", question)
    print(answer.choices[0].message.content)


if __name__ == "__main__":
    main(*sys.argv[1:])
