"""Which engines can serve a result; known before a job starts. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.tasks import TASKS
from training.tasks.base import AnyTask

UpdateConfig = dict[str, Any]


def _can_serve_vllm(task: AnyTask, update: UpdateConfig) -> bool:
    """Language models; of adapters plain LoRA, not DoRA (docs.vllm.ai, LoRA adapters)."""
    return task.generative and not update.get("dora", False)


ENGINES: dict[str, Callable[[AnyTask, UpdateConfig], bool]] = {
    "luthier": lambda task, update: True,
    "vllm": _can_serve_vllm,
}


def list_compatible_engines(task: str, update: UpdateConfig) -> list[str]:
    return [name for name, can in ENGINES.items() if can(TASKS[task], update)]
