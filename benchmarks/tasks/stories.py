"""Continued training on short stories: a sample of TinyStories.

The metric comes from the job: the mean loss on the held-out stories, which are its validation file.
"""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from benchmarks.bases import RegistryEntry
from benchmarks.tasks.benchmark import DATASETS, SEED, SHARED, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from examples.starter_data import END_OF_STORY

BASE = SHARED / "models" / "stories260k"
CONTEXT_LENGTH = 512
HELD_OUT_ROWS = 100


def _load_data() -> DataSplits:
    text = (DATASETS / "tinystories" / "tinystories_sample.txt").read_text(encoding="utf-8")
    # The last story is truncated in the file.
    stories = [story.strip() for story in text.split(END_OF_STORY)][:-1]
    rows = [{"text": story} for story in stories if story]
    Random(SEED).shuffle(rows)
    return DataSplits(rows[HELD_OUT_ROWS:], rows[:HELD_OUT_ROWS], "TinyStories, the first 2 MiB of its training text")


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return {"loss": trained.metrics["valid_loss"]}


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {
        "the untuned base": {"loss": trained.metrics["valid_loss_before"]},
        "how often each token stands in the training stories": {"loss": _compute_unigram_loss(data)},
    }


def _compute_unigram_loss(data: DataSplits) -> float:
    """Return the nats per held-out token of a unigram model with add-one smoothing."""
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    counts = Counter(token for row in data.training for token in _encode_story(tokenizer, row))
    total = counts.total() + tokenizer.get_vocab_size()
    losses = [log(total / (counts[token] + 1)) for row in data.held_out for token in _encode_story(tokenizer, row)]
    return sum(losses) / len(losses)


def _encode_story(tokenizer: Tokenizer, row: Row) -> list[int]:
    """Tokenize a story, truncated to the context."""
    return tokenizer.encode(row["text"], add_special_tokens=False).ids[: CONTEXT_LENGTH - 1]


def _create_base(directory: Path, data: DataSplits) -> RegistryEntry:
    return RegistryEntry(
        BASE, ["completion"], 260_032, CONTEXT_LENGTH, "MIT", "stories260K, trained on TinyStories by its publisher"
    )


BENCHMARK = TaskBenchmark(
    title="little stories (TinyStories)",
    base="stories260k",
    task="completion",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="loss",
    lower_is_better=True,
    uses_validation_file=True,
    create_base=_create_base,
)
