from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="ProgressOut")


@_attrs_define
class ProgressOut:
    """Progress of the training. ``eta`` is in seconds.

    Attributes:
        step (int):
        total_steps (int):
        epoch (float):
        tokens_per_second (float | None):
        eta (float | None):
    """

    step: int
    total_steps: int
    epoch: float
    tokens_per_second: float | None
    eta: float | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        step = self.step

        total_steps = self.total_steps

        epoch = self.epoch

        tokens_per_second: float | None
        tokens_per_second = self.tokens_per_second

        eta: float | None
        eta = self.eta

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "step": step,
                "total_steps": total_steps,
                "epoch": epoch,
                "tokens_per_second": tokens_per_second,
                "eta": eta,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        step = d.pop("step")

        total_steps = d.pop("total_steps")

        epoch = d.pop("epoch")

        def _parse_tokens_per_second(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        tokens_per_second = _parse_tokens_per_second(d.pop("tokens_per_second"))

        def _parse_eta(data: object) -> float | None:
            if data is None:
                return data
            return cast(float | None, data)

        eta = _parse_eta(d.pop("eta"))

        progress_out = cls(
            step=step,
            total_steps=total_steps,
            epoch=epoch,
            tokens_per_second=tokens_per_second,
            eta=eta,
        )

        progress_out.additional_properties = d
        return progress_out

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
