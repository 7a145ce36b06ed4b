"""The tasks a model can be trained for and answer: one file and one line each. No torch on import."""

from __future__ import annotations

from training.tasks.base import AnyTask
from training.tasks.chat import Chat
from training.tasks.text_classification import TextClassification

TASKS: dict[str, AnyTask] = {task.name: task for task in (Chat(), TextClassification())}
