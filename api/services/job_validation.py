"""Validation of a new job's hyperparameters and files, against its task and against each other."""

from __future__ import annotations

from typing import Any

from api.errors import InvalidRequest
from api.schemas.fine_tuning.jobs import JobIn
from storage.registry import BaseModelEntry
from training.models.support import check_format
from training.spec import Hyperparameters
from training.tasks import TASKS, TASKS_BY_METHOD
from training.tasks.base import AnyTask

_TASK_SPECIFIC_OPTIONS = frozenset().union(
    *(task.options for tasks in TASKS_BY_METHOD.values() for task in tasks.values())
)


def check_base_format(base: BaseModelEntry) -> None:
    """Check that the base's weights can be trained. Raises ``InvalidRequest``, ``ModelNotPulled``.

    The worker checks the architecture and the tokenizer, which only transformers can read.
    """
    if reasons := check_format(base.require_location()):
        raise InvalidRequest(
            f"The base model '{base.id}' cannot be used: {' '.join(reasons)}",
            param="model",
            code="base_model_unavailable",
        )


def check_update(update: str, task: AnyTask) -> None:
    """Check that the task supports the update. Raises ``InvalidRequest``."""
    if update not in task.updates:
        supported = ", ".join(f"'{name}'" for name in sorted(task.updates))
        raise InvalidRequest(
            f"The task '{task.name}' does not support the update '{update}'; send one of: {supported}.",
            param="update.type",
            code="invalid_value",
        )


def check_options(hyperparameters: Hyperparameters, body: JobIn, task: AnyTask, path: str) -> None:
    """Check that the hyperparameters suit the task and the files. Raises ``InvalidRequest``.

    ``path``: location of the hyperparameters in the body.
    """
    values: dict[str, Any] = {
        name: value for name, value in hyperparameters.model_dump().items() if value not in ("auto", None)
    }
    for name in sorted((values.keys() & _TASK_SPECIFIC_OPTIONS) - task.options):
        raise _invalid_value(f"'{name}' has no effect on the task '{task.name}'; leave it out.", f"{path}.{name}")
    if values.get("gradient_accumulation_steps", 1) > 1 and not task.supports_micro_batches:
        raise _invalid_value(
            f"A batch of the task '{task.name}' cannot be split, because its loss compares the rows with each other. "
            "Lower batch_size instead.",
            f"{path}.gradient_accumulation_steps",
        )
    if values.get("validation_share") and body.validation_file:
        raise _invalid_value("Send a validation_file or a validation_share, not both.", f"{path}.validation_share")
    if values.get("early_stopping_patience") and not (body.validation_file or values.get("validation_share")):
        raise _invalid_value(
            "Early stopping monitors the validation loss; send a validation_file, or a validation_share such as 0.1.",
            f"{path}.early_stopping_patience",
        )
    if values.get("general_share") and not body.general_file:
        raise _invalid_value(
            "general_share is a share of the rows of general_file; send a general_file.", f"{path}.general_share"
        )


def task_for_method(method: str, task: str) -> AnyTask:
    """Return the implementation of a task for a method. Raises ``InvalidRequest``."""
    if task not in TASKS_BY_METHOD[method]:
        supported = ", ".join(f"'{name}'" for name in TASKS if name in TASKS_BY_METHOD[method])
        raise _invalid_value(
            f"The method '{method}' does not support the task '{task}'; it supports {supported}.", "method.type"
        )
    return TASKS_BY_METHOD[method][task]


def _invalid_value(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")
