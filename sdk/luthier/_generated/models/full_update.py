from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="FullUpdate")


@_attrs_define
class FullUpdate:
    """Train all weights of the base model.

    Attributes:
        type_ (Literal['full'] | Unset):  Default: 'full'.
    """

    type_: Literal["full"] | Unset = "full"

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if type_ is not UNSET:
            field_dict["type"] = type_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = cast(Literal["full"] | Unset, d.pop("type", UNSET))
        if type_ != "full" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'full', got '{type_}'")

        full_update = cls(
            type_=type_,
        )

        return full_update
