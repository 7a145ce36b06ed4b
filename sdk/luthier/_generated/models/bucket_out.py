from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.usage_out import UsageOut


T = TypeVar("T", bound="BucketOut")


@_attrs_define
class BucketOut:
    """Usage of one day (UTC).

    Attributes:
        start_time (int):
        end_time (int):
        results (list[UsageOut]):
        object_ (Literal['bucket'] | Unset):  Default: 'bucket'.
    """

    start_time: int
    end_time: int
    results: list[UsageOut]
    object_: Literal["bucket"] | Unset = "bucket"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        start_time = self.start_time

        end_time = self.end_time

        results = []
        for results_item_data in self.results:
            results_item = results_item_data.to_dict()
            results.append(results_item)

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "start_time": start_time,
                "end_time": end_time,
                "results": results,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.usage_out import UsageOut  # noqa: PLC0415

        d = dict(src_dict)
        start_time = d.pop("start_time")

        end_time = d.pop("end_time")

        results = []
        _results = d.pop("results")
        for results_item_data in _results:
            results_item = UsageOut.from_dict(results_item_data)

            results.append(results_item)

        object_ = cast(Literal["bucket"] | Unset, d.pop("object", UNSET))
        if object_ != "bucket" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'bucket', got '{object_}'")

        bucket_out = cls(
            start_time=start_time,
            end_time=end_time,
            results=results,
            object_=object_,
        )

        bucket_out.additional_properties = d
        return bucket_out

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
