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

if TYPE_CHECKING:
    from ..models.allowed_tools import AllowedTools


T = TypeVar("T", bound="AllowedToolChoice")


@_attrs_define
class AllowedToolChoice:
    """Restricts calls to some of the tools.

    Attributes:
        type_ (Literal['allowed_tools']):
        allowed_tools (AllowedTools):
    """

    type_: Literal["allowed_tools"]
    allowed_tools: AllowedTools

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        allowed_tools = self.allowed_tools.to_dict()

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
                "allowed_tools": allowed_tools,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.allowed_tools import AllowedTools  # noqa: PLC0415

        d = dict(src_dict)
        type_ = cast(Literal["allowed_tools"], d.pop("type"))
        if type_ != "allowed_tools":
            raise ValueError(f"type must match const 'allowed_tools', got '{type_}'")

        allowed_tools = AllowedTools.from_dict(d.pop("allowed_tools"))

        allowed_tool_choice = cls(
            type_=type_,
            allowed_tools=allowed_tools,
        )

        return allowed_tool_choice
