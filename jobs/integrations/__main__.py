"""``python -m jobs.integrations KIND PARENT``: one run at one service.

Commands are JSON lines on stdin. Responses are JSON lines on stdout.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import BinaryIO, TextIO

from jobs.integrations.sink import COMMANDS, CloseCommand, CloseResponse, OpenCommand, Sink
from jobs.process import die_with_parent

SINKS = {
    "wandb": ("jobs.integrations.wandb_sink", "WandbSink"),
    "mlflow": ("jobs.integrations.mlflow_sink", "MlflowSink"),
}
"""Kind -> module and class. Only the selected module is imported: other extras may be missing."""


def main(sink: Sink, commands: BinaryIO, responses: TextIO) -> None:
    """Run commands until the close command."""
    for line in commands:
        match COMMANDS.validate_json(line):
            case OpenCommand() as command:
                print(sink.open(command).model_dump_json(), file=responses, flush=True)
            case CloseCommand(status=status):
                sink.close(status)
                print(CloseResponse().model_dump_json(), file=responses, flush=True)
                return
            case step:
                sink.log_step(step.at, step.step, step.values)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    # Libraries print to stdout. Redirect that to stderr, so that it cannot corrupt the responses.
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name = SINKS[sys.argv[1]]
    main(getattr(import_module(module), name)(), sys.stdin.buffer, stdout)
