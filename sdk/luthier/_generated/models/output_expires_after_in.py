from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define

T = TypeVar("T", bound="OutputExpiresAfterIn")


@_attrs_define
class OutputExpiresAfterIn:
    """
    Attributes:
        anchor (Literal['created_at']): Creation of the output file.
        seconds (int):
    """

    anchor: Literal["created_at"]
    seconds: int

    def to_dict(self) -> dict[str, Any]:
        anchor = self.anchor

        seconds = self.seconds

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "anchor": anchor,
                "seconds": seconds,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        anchor = cast(Literal["created_at"], d.pop("anchor"))
        if anchor != "created_at":
            raise ValueError(f"anchor must match const 'created_at', got '{anchor}'")

        seconds = d.pop("seconds")

        output_expires_after_in = cls(
            anchor=anchor,
            seconds=seconds,
        )

        return output_expires_after_in
