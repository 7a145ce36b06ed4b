"""Which of two answers is preferred, by DPO: a public sample of preference pairs.

The figures are those of the job, whose validation file is the pairs held out: an untrained model is its own reference,
so that no pair has a margin and its reward accuracy is that of a coin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from benchmarks.tasks.run import SEED, SETS, Data, Figures, Row, Run, Trained
from benchmarks.tasks.starter import CONTEXT, tokens

HELD_OUT = 49
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def _rows() -> Data:
    pairs = json.loads((SETS / "preference_demo" / "dpo_en_demo.json").read_text(encoding="utf-8"))
    rows = [_row(pair) for pair in pairs]
    fitting = [row for row in rows if row["input"]["messages"]]
    whole = sum(_longest(row) <= CONTEXT for row in fitting)
    Random(SEED).shuffle(fitting)
    note = (
        f"{len(fitting)} of {len(rows)} pairs: of each conversation the last turns that take at most half of the "
        f"{CONTEXT} tokens, and none where the last one alone takes more; the answers of {len(fitting) - whole} pairs "
        "are cut at the end"
    )
    return Data(fitting[HELD_OUT:], fitting[:HELD_OUT], note)


def _row(pair: dict[str, Any]) -> Row:
    """OpenAI's preference row."""
    said = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in pair["conversations"]]
    chosen, rejected = ([{"role": "assistant", "content": pair[side]["value"]}] for side in ("chosen", "rejected"))
    return {"input": {"messages": _recent(said)}, "preferred_output": chosen, "non_preferred_output": rejected}


def _recent(said: list[dict[str, str]]) -> list[dict[str, str]]:
    """From the first turn of the user from which on the rest takes at most half of the context."""
    rests = (said[first:] for first, turn in enumerate(said) if turn["role"] != "assistant")
    return next((rest for rest in rests if tokens(rest) <= CONTEXT // 2), [])


def _longest(row: Row) -> int:
    outputs = (row["preferred_output"], row["non_preferred_output"])
    return max(tokens([*row["input"]["messages"], *output]) for output in outputs)


def _ask(trained: Trained, data: Data) -> Figures:
    return {name: trained.metrics[f"valid_{name}"] for name in ("reward_accuracy", "reward_margin")}


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    kept, known = _longer(data.held_out), _longer(data.training)
    said = "longer" if 2 * sum(known) > len(known) else "shorter"
    right = sum(longer == (said == "longer") for longer in kept) / len(kept)
    return {
        "untrained: no margin, a coin": {"reward_accuracy": 0.5, "reward_margin": 0.0},
        f"the {said} answer, as most training pairs have it": {"reward_accuracy": right},
    }


def _longer(rows: Sequence[Row]) -> list[bool]:
    """Of each pair, whether the preferred answer is the longer one."""
    return [len(_said(row, "preferred_output")) > len(_said(row, "non_preferred_output")) for row in rows]


def _said(row: Row, side: str) -> str:
    text: str = row[side][0]["content"]
    return text


RUN = Run(
    title="which of two answers is preferred (DPO)",
    base="starter",
    task="chat",
    method="dpo",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="reward_accuracy",
    validates=True,
)
