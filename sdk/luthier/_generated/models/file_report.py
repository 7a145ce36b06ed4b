from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="FileReport")


@_attrs_define
class FileReport:
    """Statistics of one data file.

    Attributes:
        rows (int): Valid rows.
        tokens (int): Tokens of all valid rows, after truncation.
        longest_row_tokens (int):
        cut_rows (int): Rows truncated to ``max_length``.
        split_rows (int): Rows split into parts of at most ``max_length`` tokens.
        split_parts (int): Parts of these rows together.
        fault_count (int):
    """

    rows: int
    tokens: int
    longest_row_tokens: int
    cut_rows: int
    split_rows: int
    split_parts: int
    fault_count: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        rows = self.rows

        tokens = self.tokens

        longest_row_tokens = self.longest_row_tokens

        cut_rows = self.cut_rows

        split_rows = self.split_rows

        split_parts = self.split_parts

        fault_count = self.fault_count

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "rows": rows,
                "tokens": tokens,
                "longest_row_tokens": longest_row_tokens,
                "cut_rows": cut_rows,
                "split_rows": split_rows,
                "split_parts": split_parts,
                "fault_count": fault_count,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        rows = d.pop("rows")

        tokens = d.pop("tokens")

        longest_row_tokens = d.pop("longest_row_tokens")

        cut_rows = d.pop("cut_rows")

        split_rows = d.pop("split_rows")

        split_parts = d.pop("split_parts")

        fault_count = d.pop("fault_count")

        file_report = cls(
            rows=rows,
            tokens=tokens,
            longest_row_tokens=longest_row_tokens,
            cut_rows=cut_rows,
            split_rows=split_rows,
            split_parts=split_parts,
            fault_count=fault_count,
        )

        file_report.additional_properties = d
        return file_report

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
