"""MLflow. The tracking server and its credentials are in the environment, where its library looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from jobs.integrations.sink import Open, Opened, Status

JOB_TAG = "luthier.job_id"
PARAM_CHARACTERS = 500
_STATUS: Mapping[Status, str] = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class MlflowSink:
    def __init__(self) -> None:
        self._client = MlflowClient()
        self._run_id = ""

    def open(self, order: Open) -> Opened:
        """The run carries the job's id as a tag, so another attempt finds it again."""
        experiment_id = self._experiment(order.target["experiment"])
        found = self._client.search_runs([experiment_id], f"tags.`{JOB_TAG}` = '{order.job_id}'", max_results=1)
        run = found[0] if found else self._created(experiment_id, order)
        self._run_id = run.info.run_id
        return Opened(url=None, step=self._last_step(run))

    def step(self, at: float, step: int, values: Mapping[str, float]) -> None:
        metrics = [Metric(name, value, round(at * 1000), step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, status: Status) -> None:
        if status in _STATUS:
            self._client.set_terminated(self._run_id, _STATUS[status])

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self._client.create_experiment(name))

    def _created(self, experiment_id: str, order: Open) -> Run:
        name = order.target.get("run_name") or order.job_id
        run = self._client.create_run(experiment_id, tags={JOB_TAG: order.job_id}, run_name=name)
        params = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in order.config.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run

    def _last_step(self, run: Any) -> int:
        histories = (self._client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
        return max((metric.step for history in histories for metric in history), default=0)
