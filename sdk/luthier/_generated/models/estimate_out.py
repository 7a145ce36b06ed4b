from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.estimate_out_basis import EstimateOutBasis, check_estimate_out_basis

if TYPE_CHECKING:
    from ..models.range_ import Range


T = TypeVar("T", bound="EstimateOut")


@_attrs_define
class EstimateOut:
    """Estimated cost of the training on this installation.

    Attributes:
        seconds (Range): Estimate with bounds.
        peak_memory_bytes (Range): Estimate with bounds.
        tokens_per_second (float):
        basis (EstimateOutBasis): ``measured``: from earlier jobs with this base model. ``rule``: from its size and the
            speed
            of the workers' device.
    """

    seconds: Range
    peak_memory_bytes: Range
    tokens_per_second: float
    basis: EstimateOutBasis
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        seconds = self.seconds.to_dict()

        peak_memory_bytes = self.peak_memory_bytes.to_dict()

        tokens_per_second = self.tokens_per_second

        basis: str = self.basis

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "seconds": seconds,
                "peak_memory_bytes": peak_memory_bytes,
                "tokens_per_second": tokens_per_second,
                "basis": basis,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.range_ import Range  # noqa: PLC0415

        d = dict(src_dict)
        seconds = Range.from_dict(d.pop("seconds"))

        peak_memory_bytes = Range.from_dict(d.pop("peak_memory_bytes"))

        tokens_per_second = d.pop("tokens_per_second")

        basis = check_estimate_out_basis(d.pop("basis"))

        estimate_out = cls(
            seconds=seconds,
            peak_memory_bytes=peak_memory_bytes,
            tokens_per_second=tokens_per_second,
            basis=basis,
        )

        estimate_out.additional_properties = d
        return estimate_out

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
