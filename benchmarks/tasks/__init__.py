"""``make bench-tasks``: one run on real data per task, through the HTTP API, compared with
baselines.

To add a benchmark, write a module with a ``BENCHMARK`` and add it to ``BENCHMARKS``.
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
"""Benchmark of each task.

``examples/banking77.py`` covers text classification, with every update type.
"""
