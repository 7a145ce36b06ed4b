"""Which of two answers is preferred, by DPO: a public sample of preference pairs.

The figures are those of the job, whose validation file is the pairs held out: an untrained model is its own reference,
so that no pair has a margin and its reward accuracy is that of a coin.
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
    whole = sum(_count_max_tokens(row) <= CONTEXT_LENGTH for row in fitting)
    Random(SEED).shuffle(fitting)
    note = (
        f"{len(fitting)} of {len(rows)} pairs: of each conversation the last turns that take at most half of the "
        f"{CONTEXT_LENGTH} tokens, and none where the last one alone takes more; the answers of {len(fitting) - whole} pairs "
        "are cut at the end"
    )
    return DataSplits(fitting[HELD_OUT_ROWS:], fitting[:HELD_OUT_ROWS], note)


def _to_preference_row(pair: dict[str, Any]) -> Row:
    """OpenAI's preference row."""
    said = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in pair["conversations"]]
    chosen, rejected = ([{"role": "assistant", "content": pair[side]["value"]}] for side in ("chosen", "rejected"))
    return {
        "input": {"messages": _truncate_conversation(said)},
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


def _truncate_conversation(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """From the first turn of the user from which on the rest takes at most half of the context."""
    rests = (messages[first:] for first, turn in enumerate(messages) if turn["role"] != "assistant")
    return next((rest for rest in rests if count_tokens(rest) <= CONTEXT_LENGTH // 2), [])


def _count_max_tokens(row: Row) -> int:
    outputs = (row["preferred_output"], row["non_preferred_output"])
    return max(count_tokens([*row["input"]["messages"], *output]) for output in outputs)


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return {name: trained.metrics[f"valid_{name}"] for name in ("reward_accuracy", "reward_margin")}


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    kept, known = _compare_lengths(data.held_out), _compare_lengths(data.training)
    said = "longer" if 2 * sum(known) > len(known) else "shorter"
    right = sum(longer == (said == "longer") for longer in kept) / len(kept)
    return {
        "untrained: no margin, a coin": {"reward_accuracy": 0.5, "reward_margin": 0.0},
        f"the {said} answer, as most training pairs have it": {"reward_accuracy": right},
    }


def _compare_lengths(rows: Sequence[Row]) -> list[bool]:
    """Of each pair, whether the preferred answer is the longer one."""
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
