"""Engines that can serve a result, known before the job starts. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.tasks import TASKS
from training.tasks.base import AnyTask

UpdateConfig = dict[str, Any]


def _can_serve_vllm(task: AnyTask, update: UpdateConfig) -> bool:
    """Return True for language models.

    Of the adapters, vLLM serves LoRA of linear layers but not DoRA (docs.vllm.ai, LoRA adapters).
    On its native base, an adapter trained on NF4 gives other numbers.
    """
    is_plain = not (update.get("dora") or update.get("target_experts") is True or update.get("target_router"))
    return task.generative and is_plain and update.get("base_precision", "native") == "native"


ENGINES: dict[str, Callable[[AnyTask, UpdateConfig], bool]] = {
    "luthier": lambda task, update: True,
    "vllm": _can_serve_vllm,
}


def list_compatible_engines(task: str, update: UpdateConfig) -> list[str]:
    return [name for name, can_serve in ENGINES.items() if can_serve(TASKS[task], update)]
