"""``make bench-tasks``: one run on real data for each task, through the HTTP API, beside what it must beat.

To add one: write a file with a ``RUN`` and name it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.tasks import (
    embedding,
    entities,
    instructions,
    pictures,
    preference,
    questions,
    regression,
    stories,
    translation,
)
from benchmarks.tasks.run import Run

RUNS: Mapping[str, Run] = {
    "text-regression": regression.RUN,
    "token-classification": entities.RUN,
    "preference": preference.RUN,
    "image-classification": pictures.RUN,
    "seq2seq": translation.RUN,
    "embedding": embedding.RUN,
    "question-answering": questions.RUN,
    "completion": stories.RUN,
    "chat": instructions.RUN,
}
"""Text classification has ``examples/banking77.py`` to itself, with every way of updating."""
