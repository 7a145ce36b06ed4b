"""Preference training with DPO on a public sample of preference pairs.

The metrics come from the job, whose validation file is the held-out pairs. An untrained model
equals its reference, so every margin is 0 and its reward accuracy is that of a random choice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from benchmarks.tasks.benchmark import DATASETS, SEED, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.starter import CONTEXT_LENGTH, count_tokens

HELD_OUT_ROWS = 49
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def _load_data() -> DataSplits:
    pairs = json.loads((DATASETS / "preference_demo" / "dpo_en_demo.json").read_text(encoding="utf-8"))
    rows = [_to_preference_row(pair) for pair in pairs]
    fitting = [row for row in rows if row["input"]["messages"]]
    complete = sum(_count_max_tokens(row) <= CONTEXT_LENGTH for row in fitting)
    Random(SEED).shuffle(fitting)
    note = (
        f"{len(fitting)} of {len(rows)} pairs: the last turns of each conversation that fit half of the "
        f"{CONTEXT_LENGTH} tokens; pairs whose last turn does not fit are dropped; the answers of "
        f"{len(fitting) - complete} pairs are truncated"
    )
    return DataSplits(fitting[HELD_OUT_ROWS:], fitting[:HELD_OUT_ROWS], note)


def _to_preference_row(pair: dict[str, Any]) -> Row:
    """Convert a pair to OpenAI's preference row."""
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in pair["conversations"]]
    chosen, rejected = ([{"role": "assistant", "content": pair[side]["value"]}] for side in ("chosen", "rejected"))
    return {
        "input": {"messages": _truncate_conversation(messages)},
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


def _truncate_conversation(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Drop leading turns until the rest fits half of the context and does not start with the
    assistant.
    """
    suffixes = (messages[first:] for first, turn in enumerate(messages) if turn["role"] != "assistant")
    return next((suffix for suffix in suffixes if count_tokens(suffix) <= CONTEXT_LENGTH // 2), [])


def _count_max_tokens(row: Row) -> int:
    outputs = (row["preferred_output"], row["non_preferred_output"])
    return max(count_tokens([*row["input"]["messages"], *output]) for output in outputs)


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return {name: trained.metrics[f"valid_{name}"] for name in ("reward_accuracy", "reward_margin")}


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    held_out, training = _compare_lengths(data.held_out), _compare_lengths(data.training)
    choice = "longer" if 2 * sum(training) > len(training) else "shorter"
    accuracy = sum(longer == (choice == "longer") for longer in held_out) / len(held_out)
    return {
        "untrained: no margin, a coin": {"reward_accuracy": 0.5, "reward_margin": 0.0},
        f"the {choice} answer, as most training pairs have it": {"reward_accuracy": accuracy},
    }


def _compare_lengths(rows: Sequence[Row]) -> list[bool]:
    """Return, per pair, True if the preferred answer is the longer one."""
    return [
        len(_get_output_text(row, "preferred_output")) > len(_get_output_text(row, "non_preferred_output"))
        for row in rows
    ]


def _get_output_text(row: Row, side: str) -> str:
    text: str = row[side][0]["content"]
    return text


BENCHMARK = TaskBenchmark(
    title="which of two answers is preferred (DPO)",
    base="starter",
    task="chat",
    method="dpo",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="reward_accuracy",
    uses_validation_file=True,
)
