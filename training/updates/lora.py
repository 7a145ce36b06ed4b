"""LoRA: low-rank adapters on frozen weights, through PEFT (Hu et al. 2021, arXiv:2106.09685).

The frozen weights can be stored in 4 bits (QLoRA).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field, StringConstraints

from training.models import quantization
from training.models.experts import find_expert_blocks
from training.updates.lora_targets import LoraTargets, find_targets

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModelInfo
    from training.tasks.base import AnyTask, TaskState

BasePrecision = Literal["native", "nf4"]
ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.]+$")]

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's file names."""


class LoraUpdate(pydantic.BaseModel):
    """Train a LoRA adapter, together with the head of a classifier."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    type: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=512, strict=True)
    alpha: float = Field(default=32, gt=0, le=4096)
    """The adapter's output is scaled by alpha / rank (rsLoRA: alpha / sqrt(rank))."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1, max_length=64)] = (
        "all-linear"
    )
    """Names of the layers that get an adapter; ``all-linear`` excludes the output layer."""
    target_experts: Literal["auto"] | bool = "auto"
    """Adapt the experts of a mixture-of-experts model, each with its own matrices of this rank.
    ``auto`` does so with ``all-linear`` and without DoRA, which experts exclude."""
    target_router: bool = False
    """Adapt the routers too, which choose the experts of each token."""
    rslora: bool = False
    dora: bool = False
    base_precision: BasePrecision = "native"
    """``nf4`` stores the linear layers of the frozen base in 4 bits (QLoRA, arXiv:2305.14314):
    about a quarter of bfloat16's memory."""

    @pydantic.model_validator(mode="after")
    def _reject_dora_of_experts(self) -> LoraUpdate:
        if self.dora and (self.target_experts is True or self.target_router):
            raise ValueError("dora excludes target_experts and target_router; send one of them")
        return self

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """Return the compute dtype: a frozen base needs no more precision."""
        return compute

    def apply(self, model: Any, task: AnyTask) -> Any:
        """Quantize the base, if so configured, and add the adapter.

        Raises ``ValueError`` if the model lacks a target or a layer that can be quantized.
        """
        from peft import LoraConfig, TaskType, get_peft_model

        head_modules = find_head_modules(model, task)
        if self.base_precision == "nf4":
            quantization.quantize_linear_layers(model, head_modules)
        targets = self._find_targets(model)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0 if targets.parameters else self.dropout,
            target_modules=targets.modules,
            target_parameters=targets.parameters,
            use_rslora=self.rslora,
            use_dora=self.dora,
            task_type=TaskType(task.peft_task_type) if task.peft_task_type else None,
            modules_to_save=None if task.uses_lm_head else head_modules,
        )
        adapted = get_peft_model(model, config)
        if targets.parameters and self.dropout:
            # PEFT refuses dropout for the whole adapter if it has parameters without a layer.
            add_dropout(adapted, self.dropout)
        return adapted

    def _find_targets(self, model: Any) -> LoraTargets:
        blocks = find_expert_blocks(model)
        if blocks:
            is_auto = self.target_experts == "auto"
            with_experts = self.target_modules == "all-linear" and not self.dora if is_auto else self.target_experts
            targets = find_targets(model, blocks, self.target_modules, bool(with_experts), self.target_router)
            return replace(targets, parameters=None) if self.dora else targets
        if self.target_experts is True or self.target_router:
            raise ValueError(f"{type(model).__name__} has no experts; leave target_experts and target_router out")
        return LoraTargets(self.target_modules)

    def count_frozen_blocks(self, model: Any) -> int:
        return 0

    def load_weights(self, model: Any, directory: Path) -> None:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        load_result = set_peft_model_state_dict(model, load_file(directory / WEIGHTS_NAME))
        assert not load_result.unexpected_keys, load_result.unexpected_keys

    def save(self, model: Any, base: BaseModelInfo, directory: Path) -> None:
        """Write a directory for ``PeftModel.from_pretrained``.

        PEFT's own writer orders sets by hash, so its bytes vary between runs.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        weights = get_peft_model_state_dict(model, save_embedding_layers=False)
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS_NAME, {"format": "pt"}
        )
        config = model.active_peft_config.to_dict()
        config |= {"base_model_name_or_path": base.id, "inference_mode": True}
        sorted_config = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        (directory / CONFIG_NAME).write_text(json.dumps(sorted_config, indent=2, sort_keys=True))

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        from peft import PeftModel

        model = load_base(base, task, state, dtype, self.base_precision)
        return PeftModel.from_pretrained(model, directory, local_files_only=True).eval()

    def load_merged(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        """Load the model with the adapter added to the weights that it was trained on."""
        from peft import PeftModel

        model = task.load_model(base, state, dtype)
        if self.base_precision == "nf4":
            # Adding to 4-bit weights would round the adapter away.
            quantization.round_linear_layers(model, find_head_modules(model, task))
        return PeftModel.from_pretrained(model, directory, local_files_only=True).eval().merge_and_unload()


def load_base(base: Path, task: AnyTask, state: TaskState, dtype: torch.dtype, precision: BasePrecision) -> Any:
    """Load the frozen model that adapters run on.

    Raises ``TrainingError`` (missing_extra).
    """
    model = task.load_model(base, state, dtype)
    if precision == "nf4":
        quantization.quantize_linear_layers(model, find_head_modules(model, task))
    return model.eval()


def find_head_modules(model: Any, task: AnyTask) -> list[str]:
    """Return the names of the modules that a task adds to the base, to train in full."""
    if task.uses_lm_head or model.base_model is model:
        return []
    added = ((name, child) for name, child in model.named_children() if child is not model.base_model)
    return [name for name, child in added if any(True for _ in child.parameters())]


def add_dropout(model: Any, probability: float) -> None:
    """Add dropout to the inputs of all adapters that have inputs: those of layers, not of
    parameters."""
    from peft.tuners.lora import LoraLayer, ParamWrapper
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer, ParamWrapper):
            layer.lora_dropout.update({name: nn.Dropout(probability) for name in layer.active_adapters})


def supports_mixed_batches(directory: Path) -> bool:
    """Return True if PEFT can run a saved adapter in a batch with others: neither DoRA nor adapted
    parameters (``target_parameters``)."""
    config = json.loads((directory / CONFIG_NAME).read_text())
    return not (config.get("use_dora") or config.get("target_parameters"))
