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
    from ..models.function_reference import FunctionReference


T = TypeVar("T", bound="NamedTool")


@_attrs_define
class NamedTool:
    """Forces a call of one tool.

    Attributes:
        type_ (Literal['function']):
        function (FunctionReference):
    """

    type_: Literal["function"]
    function: FunctionReference

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        function = self.function.to_dict()

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
                "function": function,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.function_reference import FunctionReference  # noqa: PLC0415

        d = dict(src_dict)
        type_ = cast(Literal["function"], d.pop("type"))
        if type_ != "function":
            raise ValueError(f"type must match const 'function', got '{type_}'")

        function = FunctionReference.from_dict(d.pop("function"))

        named_tool = cls(
            type_=type_,
            function=function,
        )

        return named_tool
