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

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.preview_row_target_type_0 import PreviewRowTargetType0
    from ..models.token_sequence import TokenSequence


T = TypeVar("T", bound="PreviewRow")


@_attrs_define
class PreviewRow:
    """One row as encoded for training.

    Attributes:
        line (int | None):
        cut (bool):
        target (None | PreviewRowTargetType0):
        sequences (list[TokenSequence]):
        type_ (Literal['row'] | Unset):  Default: 'row'.
    """

    line: int | None
    cut: bool
    target: None | PreviewRowTargetType0
    sequences: list[TokenSequence]
    type_: Literal["row"] | Unset = "row"

    def to_dict(self) -> dict[str, Any]:
        from ..models.preview_row_target_type_0 import PreviewRowTargetType0  # noqa: PLC0415

        line: int | None
        line = self.line

        cut = self.cut

        target: dict[str, Any] | None
        if isinstance(self.target, PreviewRowTargetType0):
            target = self.target.to_dict()
        else:
            target = self.target

        sequences = []
        for sequences_item_data in self.sequences:
            sequences_item = sequences_item_data.to_dict()
            sequences.append(sequences_item)

        type_ = self.type_

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "line": line,
                "cut": cut,
                "target": target,
                "sequences": sequences,
            }
        )
        if type_ is not UNSET:
            field_dict["type"] = type_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.preview_row_target_type_0 import PreviewRowTargetType0  # noqa: PLC0415
        from ..models.token_sequence import TokenSequence  # noqa: PLC0415

        d = dict(src_dict)

        def _parse_line(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        line = _parse_line(d.pop("line"))

        cut = d.pop("cut")

        def _parse_target(data: object) -> None | PreviewRowTargetType0:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                target_type_0 = PreviewRowTargetType0.from_dict(data)

                return target_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | PreviewRowTargetType0, data)

        target = _parse_target(d.pop("target"))

        sequences = []
        _sequences = d.pop("sequences")
        for sequences_item_data in _sequences:
            sequences_item = TokenSequence.from_dict(sequences_item_data)

            sequences.append(sequences_item)

        type_ = cast(Literal["row"] | Unset, d.pop("type", UNSET))
        if type_ != "row" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'row', got '{type_}'")

        preview_row = cls(
            line=line,
            cut=cut,
            target=target,
            sequences=sequences,
            type_=type_,
        )

        return preview_row
