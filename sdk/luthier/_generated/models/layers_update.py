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

T = TypeVar("T", bound="LayersUpdate")


@_attrs_define
class LayersUpdate:
    """Train the last blocks and the head. The outputs of the frozen blocks are computed once.

    Attributes:
        type_ (Literal['layers'] | Unset):  Default: 'layers'.
        last (int | Unset): Number of blocks to train; all blocks if the model has fewer. Default: 2.
    """

    type_: Literal["layers"] | Unset = "layers"
    last: int | Unset = 2

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        last = self.last

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if type_ is not UNSET:
            field_dict["type"] = type_
        if last is not UNSET:
            field_dict["last"] = last

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = cast(Literal["layers"] | Unset, d.pop("type", UNSET))
        if type_ != "layers" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'layers', got '{type_}'")

        last = d.pop("last", UNSET)

        layers_update = cls(
            type_=type_,
            last=last,
        )

        return layers_update
