"""HTTP routes of models, by task."""

from __future__ import annotations

from collections.abc import Iterable

from training.tasks import TASKS
from training.tasks.base import Route


def filter_tasks_by_route(tasks: Iterable[str], route: Route) -> list[str]:
    """Return the tasks whose models are served at ``POST /v1/{route}``."""
    return [name for name in tasks if name in TASKS and TASKS[name].route == route]


def build_wrong_route_message(name: str, tasks: list[str]) -> str:
    """Build the error message for a request to a model of these tasks at another route."""
    routes = sorted({f"POST /v1/{TASKS[task].route}" for task in tasks if task in TASKS})
    return f"'{name}' is a model for {' and '.join(tasks)}; send requests to {' or '.join(routes)}."
