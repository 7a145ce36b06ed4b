"""``make bench-tasks``: one run on real data for each task, through the HTTP API, beside what it must beat.

To add one: write a file with a ``RUN`` and name it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.tasks import (
    embedding,
    entities,
    images,
    instructions,
    preference,
    questions,
    regression,
    stories,
    translation,
)
from benchmarks.tasks.benchmark import TaskBenchmark

BENCHMARKS: Mapping[str, TaskBenchmark] = {
    "text-regression": regression.BENCHMARK,
    "token-classification": entities.BENCHMARK,
    "preference": preference.BENCHMARK,
    "image-classification": images.BENCHMARK,
    "seq2seq": translation.BENCHMARK,
    "embedding": embedding.BENCHMARK,
    "question-answering": questions.BENCHMARK,
    "completion": stories.BENCHMARK,
    "chat": instructions.BENCHMARK,
}
"""Text classification has ``examples/banking77.py`` to itself, with every way of updating."""
