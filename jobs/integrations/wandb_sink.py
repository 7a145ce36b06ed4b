"""Weights & Biases sink. The wandb library reads key, server and mode from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

from jobs.integrations.sink import OpenCommand, OpenResponse, Status


class WandbSink:
    def open(self, command: OpenCommand) -> OpenResponse:
        """Open the job's run. Its id is the job's id, so that later attempts find it."""
        target = command.target
        self._run: Any = wandb.init(
            project=target["project"],
            entity=target.get("entity"),
            name=target.get("name") or command.job_id,
            tags=target.get("tags"),
            id=command.job_id,
            resume="allow",
            config=command.config,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )
        return OpenResponse(url=self._run.url, step=max(0, self._run.step - 1))

    def log_step(self, wall_time: float, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "_timestamp": wall_time}, step=step)

    def close(self, status: Status) -> None:
        self._run.finish(exit_code=int(status in ("failed", "cancelled")))
