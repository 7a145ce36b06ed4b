"""Instructions and what to answer: a public sample in Alpaca's form, as conversations.

The figure is the job's own: the mean loss of the answers held out, which are its validation file.
"""

from __future__ import annotations

import json
from random import Random

from benchmarks.tasks.run import SEED, SETS, Data, Figures, Row, Run, Trained
from benchmarks.tasks.starter import CONTEXT, tokens

HELD_OUT = 100


def _rows() -> Data:
    given = json.loads((SETS / "instruction_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    rows = [_row(one) for one in given if one["output"].strip()]
    fitting = [row for row in rows if tokens(row["messages"]) <= CONTEXT]
    Random(SEED).shuffle(fitting)
    note = f"{len(fitting)} of {len(given)} rows: those with an answer that fit the starter's {CONTEXT} tokens"
    return Data(fitting[HELD_OUT:], fitting[:HELD_OUT], note)


def _row(one: dict[str, str]) -> Row:
    """OpenAI's chat row."""
    asked = "\n\n".join(part for part in (one["instruction"], one["input"]) if part)
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": one["output"]}]}


def _ask(trained: Trained, data: Data) -> Figures:
    return {"loss": trained.metrics["valid_loss"]}


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    return {"the untuned base": {"loss": trained.metrics["valid_loss_before"]}}


RUN = Run(
    title="answers to instructions (Alpaca)",
    base="starter",
    task="chat",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="loss",
    lower_is_better=True,
    validates=True,
)
