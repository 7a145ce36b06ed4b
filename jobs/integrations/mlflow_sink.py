"""MLflow sink.

MLflow's library reads the tracking server and its credentials from the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from jobs.integrations.sink import OpenCommand, OpenResponse, Status

JOB_TAG = "luthier.job_id"
MAX_PARAM_CHARACTERS = 500
_MLFLOW_STATUS: Mapping[Status, str] = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class MlflowSink:
    def __init__(self) -> None:
        self._client = MlflowClient()
        self._run_id = ""

    def open(self, command: OpenCommand) -> OpenResponse:
        """Open the job's run. It is tagged with the job's id, so that later attempts find it."""
        experiment_id = self._get_or_create_experiment(command.target["experiment"])
        runs = self._client.search_runs([experiment_id], f"tags.`{JOB_TAG}` = '{command.job_id}'", max_results=1)
        run = runs[0] if runs else self._create_run(experiment_id, command)
        self._run_id = run.info.run_id
        return OpenResponse(url=None, step=self._find_last_step(run))

    def log_step(self, wall_time: float, step: int, values: Mapping[str, float]) -> None:
        metrics = [Metric(name, value, round(wall_time * 1000), step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, status: Status) -> None:
        if status in _MLFLOW_STATUS:
            self._client.set_terminated(self._run_id, _MLFLOW_STATUS[status])

    def _get_or_create_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(name))

    def _create_run(self, experiment_id: str, command: OpenCommand) -> Run:
        name = command.target.get("run_name") or command.job_id
        run = self._client.create_run(experiment_id, tags={JOB_TAG: command.job_id}, run_name=name)
        params = [Param(key, str(value)[:MAX_PARAM_CHARACTERS]) for key, value in command.config.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run

    def _find_last_step(self, run: Any) -> int:
        histories = (self._client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
        return max((metric.step for history in histories for metric in history), default=0)
