"""Where models answer: what a task's name says of it."""

from __future__ import annotations

from collections.abc import Iterable

from training.tasks import TASKS
from training.tasks.base import Route


def filter_tasks_by_route(tasks: Iterable[str], route: Route) -> list[str]:
    """Those of the tasks whose models answer at ``POST /v1/{route}``."""
    return [name for name in tasks if name in TASKS and TASKS[name].route == route]


def build_wrong_route_message(name: str, tasks: list[str]) -> str:
    """What to tell the one who asked a model of these tasks at another's route."""
    routes = sorted({f"POST /v1/{TASKS[task].route}" for task in tasks if task in TASKS})
    return f"'{name}' is a model for {' and '.join(tasks)}; ask it at {' or '.join(routes)}."
