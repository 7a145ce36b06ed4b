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

T = TypeVar("T", bound="HeadUpdate")


@_attrs_define
class HeadUpdate:
    """Train only the head: final norm or pooler, and output layer. The features of the base are
    computed once.

        Attributes:
            type_ (Literal['head'] | Unset):  Default: 'head'.
    """

    type_: Literal["head"] | Unset = "head"

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
        type_ = cast(Literal["head"] | Unset, d.pop("type", UNSET))
        if type_ != "head" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'head', got '{type_}'")

        head_update = cls(
            type_=type_,
        )

        return head_update
