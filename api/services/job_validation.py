"""Hyperparameters and files of a new job, held against its task and against one another."""

from __future__ import annotations

from typing import Any

from api.errors import InvalidRequest
from api.schemas.fine_tuning.jobs import JobIn
from training.spec import Hyperparameters
from training.tasks import METHODS, TASKS
from training.tasks.base import AnyTask

_TASK_SPECIFIC_OPTIONS = frozenset().union(*(task.options for tasks in METHODS.values() for task in tasks.values()))


def check_update(update: str, task: AnyTask) -> None:
    """Raises ``InvalidRequest``."""
    if update not in task.updates:
        fitting = ", ".join(f"'{name}'" for name in sorted(task.updates))
        raise InvalidRequest(
            f"The update '{update}' does not fit the task '{task.name}'; it can be {fitting}.",
            param="update.type",
            code="invalid_value",
        )


def check_options(hyperparameters: Hyperparameters, body: JobIn, task: AnyTask, path: str) -> None:
    """``place``: where in the body the hyperparameters stand. Raises ``InvalidRequest``."""
    asked: dict[str, Any] = {
        name: value for name, value in hyperparameters.model_dump().items() if value not in ("auto", None)
    }
    for name in sorted((asked.keys() & _TASK_SPECIFIC_OPTIONS) - task.options):
        raise _invalid_value(f"'{name}' has no effect on the task '{task.name}'; leave it out.", f"{path}.{name}")
    if asked.get("gradient_accumulation_steps", 1) > 1 and not task.splittable:
        raise _invalid_value(
            f"A batch of the task '{task.name}' cannot be split: its rows are told apart from one another. Lower "
            "batch_size instead.",
            f"{path}.gradient_accumulation_steps",
        )
    if asked.get("validation_share") and body.validation_file:
        raise _invalid_value("Send a validation_file or a validation_share, not both.", f"{path}.validation_share")
    if asked.get("early_stopping_patience") and not (body.validation_file or asked.get("validation_share")):
        raise _invalid_value(
            "Early stopping watches the validation loss: send a validation_file, or a validation_share such as 0.1.",
            f"{path}.early_stopping_patience",
        )
    if asked.get("general_share") and not body.general_file:
        raise _invalid_value("general_share is a share of the general_file's rows: send one.", f"{path}.general_share")


def task_for_method(method: str, task: str) -> AnyTask:
    """What learns a task by a method. Raises ``InvalidRequest``."""
    if task not in METHODS[method]:
        able = ", ".join(f"'{name}'" for name in TASKS if name in METHODS[method])
        raise _invalid_value(f"The method '{method}' trains {able}, not '{task}'.", "method.type")
    return METHODS[method][task]


def _invalid_value(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")
