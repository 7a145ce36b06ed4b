"""Low-rank adapters beside frozen weights, through PEFT (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field, StringConstraints

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModel
    from training.tasks.base import AnyTask, TaskState

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.]+$")]

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's names."""


class LoraUpdate(pydantic.BaseModel):
    """Train an adapter; a classifier's head trains with it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=512, strict=True)
    alpha: float = Field(default=32, gt=0, le=4096)
    """The adapter's output is scaled by alpha / rank (rsLoRA: alpha / sqrt(rank))."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1, max_length=64)] = (
        "all-linear"
    )
    """Names of the layers that get an adapter; ``all-linear`` leaves out the output layer."""
    rslora: bool = False
    dora: bool = False

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """The base is frozen, so it may be as narrow as the arithmetic."""
        return compute

    def apply(self, model: Any, task: AnyTask) -> Any:
        """Raises ``ValueError`` where no layer has a name of ``target_modules``."""
        from peft import LoraConfig, TaskType, get_peft_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            use_rslora=self.rslora,
            use_dora=self.dora,
            task_type=TaskType(task.peft_type) if task.peft_type else None,
            modules_to_save=None if task.uses_lm_head else find_head_modules(model),
        )
        return get_peft_model(model, config)

    def count_frozen_blocks(self, model: Any) -> int:
        return 0

    def load_weights(self, model: Any, directory: Path) -> None:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        unfit = set_peft_model_state_dict(model, load_file(directory / WEIGHTS_NAME))
        assert not unfit.unexpected_keys, unfit.unexpected_keys

    def save(self, model: Any, base: BaseModel, directory: Path) -> None:
        """What stock ``PeftModel.from_pretrained`` loads. PEFT's own writer orders sets by hash, so its bytes vary."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        weights = get_peft_model_state_dict(model, save_embedding_layers=False)
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS_NAME, {"format": "pt"}
        )
        config = model.active_peft_config.to_dict()
        config |= {"base_model_name_or_path": base.id, "inference_mode": True}
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        (directory / CONFIG_NAME).write_text(json.dumps(plain, indent=2, sort_keys=True))

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        from peft import PeftModel

        model = task.load_model(base, state, dtype)
        return PeftModel.from_pretrained(model, directory, local_files_only=True).eval()


def find_head_modules(model: Any) -> list[str]:
    """Modules beside the base that a task brings along: new, so they are trained whole."""
    if model.base_model is model:
        return []
    beside = ((name, child) for name, child in model.named_children() if child is not model.base_model)
    return [name for name, child in beside if any(True for _ in child.parameters())]
