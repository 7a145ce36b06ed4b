"""Little stories that go on: a sample of TinyStories.

The figure is the job's own: the mean loss of the stories held out, which are its validation file.
"""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from benchmarks.bases import Entry
from benchmarks.tasks.run import SEED, SETS, SHARED, Data, Figures, Row, Run, Trained
from examples.starter_data import END_OF_STORY

BASE = SHARED / "models" / "stories260k"
CONTEXT = 512
HELD_OUT = 100


def _rows() -> Data:
    text = (SETS / "tinystories" / "tinystories_sample.txt").read_text(encoding="utf-8")
    # The last one is cut off in the file.
    stories = [story.strip() for story in text.split(END_OF_STORY)][:-1]
    rows = [{"text": story} for story in stories if story]
    Random(SEED).shuffle(rows)
    return Data(rows[HELD_OUT:], rows[:HELD_OUT], "TinyStories, the first 2 MiB of its training text")


def _ask(trained: Trained, data: Data) -> Figures:
    return {"loss": trained.metrics["valid_loss"]}


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    return {
        "the untuned base": {"loss": trained.metrics["valid_loss_before"]},
        "how often each token stands in the training stories": {"loss": _unigram(data)},
    }


def _unigram(data: Data) -> float:
    """Nats for each token held out, its probability that of one more time in the training stories."""
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    counts = Counter(token for row in data.training for token in _learnt(tokenizer, row))
    total = counts.total() + tokenizer.get_vocab_size()
    losses = [log(total / (counts[token] + 1)) for row in data.held_out for token in _learnt(tokenizer, row)]
    return sum(losses) / len(losses)


def _learnt(tokenizer: Tokenizer, row: Row) -> list[int]:
    """The story's tokens up to the context's end."""
    return tokenizer.encode(row["text"], add_special_tokens=False).ids[: CONTEXT - 1]


def _base(directory: Path, data: Data) -> Entry:
    return Entry(BASE, ["completion"], 260_032, CONTEXT, "MIT", "stories260K, trained on TinyStories by its publisher")


RUN = Run(
    title="little stories (TinyStories)",
    base="stories260k",
    task="completion",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="loss",
    lower_is_better=True,
    validates=True,
    make_base=_base,
)
