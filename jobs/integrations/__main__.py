"""``python -m jobs.integrations KIND PARENT``: one run at one service, told by lines of JSON on stdin."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import BinaryIO, TextIO

from jobs.integrations.sink import ORDERS, Close, Closed, Open, Sink
from jobs.process import die_with_parent

SINKS = {
    "wandb": ("jobs.integrations.wandb_sink", "WandbSink"),
    "mlflow": ("jobs.integrations.mlflow_sink", "MlflowSink"),
}
"""Kind -> module and class: only one of them can be imported where the others' extras are not installed."""


def main(sink: Sink, orders: BinaryIO, answers: TextIO) -> None:
    """Until the last order."""
    for line in orders:
        match ORDERS.validate_json(line):
            case Open() as order:
                print(sink.open(order).model_dump_json(), file=answers, flush=True)
            case Close(status=status):
                sink.close(status)
                print(Closed().model_dump_json(), file=answers, flush=True)
                return
            case step:
                sink.step(step.at, step.step, step.values)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    # Libraries print; their words go where the errors go.
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name = SINKS[sys.argv[1]]
    main(getattr(import_module(module), name)(), sys.stdin.buffer, ours)
