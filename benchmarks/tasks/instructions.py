"""Instructions and what to answer: a public sample in Alpaca's form, as conversations.

The figure is the job's own: the mean loss of the answers held out, which are its validation file.
"""

from __future__ import annotations

import json
from random import Random

from benchmarks.tasks.benchmark import DATASETS, SEED, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.starter import CONTEXT_LENGTH, count_tokens

HELD_OUT_ROWS = 100


def _load_data() -> DataSplits:
    given = json.loads((DATASETS / "instruction_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    rows = [_to_chat_row(one) for one in given if one["output"].strip()]
    fitting = [row for row in rows if count_tokens(row["messages"]) <= CONTEXT_LENGTH]
    Random(SEED).shuffle(fitting)
    note = f"{len(fitting)} of {len(given)} rows: those with an answer that fit the starter's {CONTEXT_LENGTH} tokens"
    return DataSplits(fitting[HELD_OUT_ROWS:], fitting[:HELD_OUT_ROWS], note)


def _to_chat_row(example: dict[str, str]) -> Row:
    """OpenAI's chat row."""
    asked = "\n\n".join(part for part in (example["instruction"], example["input"]) if part)
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": example["output"]}]}


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return {"loss": trained.metrics["valid_loss"]}


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {"the untuned base": {"loss": trained.metrics["valid_loss_before"]}}


BENCHMARK = TaskBenchmark(
    title="answers to instructions (Alpaca)",
    base="starter",
    task="chat",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="loss",
    lower_is_better=True,
    uses_validation_file=True,
)
