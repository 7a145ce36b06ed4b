from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define

from ..models.lora_update_base_precision import (
    LoraUpdateBasePrecision,
    check_lora_update_base_precision,
)
from ..models.lora_update_target_experts_type_0 import (
    LoraUpdateTargetExpertsType0,
    check_lora_update_target_experts_type_0,
)
from ..models.lora_update_target_modules_type_0 import (
    LoraUpdateTargetModulesType0,
    check_lora_update_target_modules_type_0,
)
from ..types import UNSET, Unset

T = TypeVar("T", bound="LoraUpdate")


@_attrs_define
class LoraUpdate:
    """Train a LoRA adapter, together with the head of a classifier.

    Attributes:
        type_ (Literal['lora'] | Unset):  Default: 'lora'.
        rank (int | Unset):  Default: 16.
        alpha (float | Unset): The adapter's output is scaled by alpha / rank (rsLoRA: alpha / sqrt(rank)). Default:
            32.0.
        dropout (float | Unset):  Default: 0.0.
        target_modules (list[str] | LoraUpdateTargetModulesType0 | Unset): Names of the layers that get an adapter;
            ``all-linear`` excludes the output layer. Default: 'all-linear'.
        target_experts (bool | LoraUpdateTargetExpertsType0 | Unset): Adapt the experts of a mixture-of-experts model,
            each with its own matrices of this rank.
            ``auto`` does so with ``all-linear`` and without DoRA, which experts exclude. Default: 'auto'.
        target_router (bool | Unset): Adapt the routers too, which choose the experts of each token. Default: False.
        rslora (bool | Unset):  Default: False.
        dora (bool | Unset):  Default: False.
        base_precision (LoraUpdateBasePrecision | Unset): ``nf4`` stores the linear layers of the frozen base in 4 bits
            (QLoRA, arXiv:2305.14314):
            about a quarter of bfloat16's memory. Default: 'native'.
    """

    type_: Literal["lora"] | Unset = "lora"
    rank: int | Unset = 16
    alpha: float | Unset = 32.0
    dropout: float | Unset = 0.0
    target_modules: list[str] | LoraUpdateTargetModulesType0 | Unset = "all-linear"
    target_experts: bool | LoraUpdateTargetExpertsType0 | Unset = "auto"
    target_router: bool | Unset = False
    rslora: bool | Unset = False
    dora: bool | Unset = False
    base_precision: LoraUpdateBasePrecision | Unset = "native"

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        rank = self.rank

        alpha = self.alpha

        dropout = self.dropout

        target_modules: list[str] | str | Unset
        if isinstance(self.target_modules, Unset):
            target_modules = UNSET
        elif isinstance(self.target_modules, str):
            target_modules = self.target_modules
        else:
            target_modules = self.target_modules

        target_experts: bool | str | Unset
        if isinstance(self.target_experts, Unset):
            target_experts = UNSET
        elif isinstance(self.target_experts, str):
            target_experts = self.target_experts
        else:
            target_experts = self.target_experts

        target_router = self.target_router

        rslora = self.rslora

        dora = self.dora

        base_precision: str | Unset = UNSET
        if not isinstance(self.base_precision, Unset):
            base_precision = self.base_precision

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if type_ is not UNSET:
            field_dict["type"] = type_
        if rank is not UNSET:
            field_dict["rank"] = rank
        if alpha is not UNSET:
            field_dict["alpha"] = alpha
        if dropout is not UNSET:
            field_dict["dropout"] = dropout
        if target_modules is not UNSET:
            field_dict["target_modules"] = target_modules
        if target_experts is not UNSET:
            field_dict["target_experts"] = target_experts
        if target_router is not UNSET:
            field_dict["target_router"] = target_router
        if rslora is not UNSET:
            field_dict["rslora"] = rslora
        if dora is not UNSET:
            field_dict["dora"] = dora
        if base_precision is not UNSET:
            field_dict["base_precision"] = base_precision

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = cast(Literal["lora"] | Unset, d.pop("type", UNSET))
        if type_ != "lora" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'lora', got '{type_}'")

        rank = d.pop("rank", UNSET)

        alpha = d.pop("alpha", UNSET)

        dropout = d.pop("dropout", UNSET)

        def _parse_target_modules(data: object) -> list[str] | LoraUpdateTargetModulesType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                target_modules_type_0 = check_lora_update_target_modules_type_0(data)

                return target_modules_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            if not isinstance(data, list):
                raise TypeError()
            target_modules_type_1 = cast(list[str], data)

            return target_modules_type_1

        target_modules = _parse_target_modules(d.pop("target_modules", UNSET))

        def _parse_target_experts(data: object) -> bool | LoraUpdateTargetExpertsType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                target_experts_type_0 = check_lora_update_target_experts_type_0(data)

                return target_experts_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(bool | LoraUpdateTargetExpertsType0 | Unset, data)

        target_experts = _parse_target_experts(d.pop("target_experts", UNSET))

        target_router = d.pop("target_router", UNSET)

        rslora = d.pop("rslora", UNSET)

        dora = d.pop("dora", UNSET)

        _base_precision = d.pop("base_precision", UNSET)
        base_precision: LoraUpdateBasePrecision | Unset
        if isinstance(_base_precision, Unset):
            base_precision = UNSET
        else:
            base_precision = check_lora_update_base_precision(_base_precision)

        lora_update = cls(
            type_=type_,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            target_modules=target_modules,
            target_experts=target_experts,
            target_router=target_router,
            rslora=rslora,
            dora=dora,
            base_precision=base_precision,
        )

        return lora_update
