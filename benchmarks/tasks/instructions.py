"""Instructions and answers: a public sample in Alpaca's format, converted to conversations.

The metric comes from the job: the mean loss on the held-out answers, which are its validation file.
"""

from __future__ import annotations

import json
from random import Random

from benchmarks.tasks.benchmark import DATASETS, SEED, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.starter import CONTEXT_LENGTH, count_tokens

HELD_OUT_ROWS = 100


def _load_data() -> DataSplits:
    examples = json.loads((DATASETS / "instruction_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    rows = [_to_chat_row(example) for example in examples if example["output"].strip()]
    fitting = [row for row in rows if count_tokens(row["messages"]) <= CONTEXT_LENGTH]
    Random(SEED).shuffle(fitting)
    note = (
        f"{len(fitting)} of {len(examples)} rows: those with an answer that fit the starter's {CONTEXT_LENGTH} tokens"
    )
    return DataSplits(fitting[HELD_OUT_ROWS:], fitting[:HELD_OUT_ROWS], note)


def _to_chat_row(example: dict[str, str]) -> Row:
    """Convert an example to OpenAI's chat row."""
    prompt = "\n\n".join(part for part in (example["instruction"], example["input"]) if part)
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": example["output"]}]}


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
