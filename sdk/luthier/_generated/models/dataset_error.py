from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.dataset_error_file import DatasetErrorFile, check_dataset_error_file
from ..types import UNSET, Unset

T = TypeVar("T", bound="DatasetError")


@_attrs_define
class DatasetError:
    """One error of one row.

    Attributes:
        code (str):
        line (int | None): Physical line in the file, from 1; the first line of a row that spans several.
        field (None | str): Path in the row, such as ``messages[2].content``.
        message (str): Description of the error and how to fix it.
        file (DatasetErrorFile | Unset):  Default: 'training_file'.
    """

    code: str
    line: int | None
    field: None | str
    message: str
    file: DatasetErrorFile | Unset = "training_file"

    def to_dict(self) -> dict[str, Any]:
        code = self.code

        line: int | None
        line = self.line

        field: None | str
        field = self.field

        message = self.message

        file: str | Unset = UNSET
        if not isinstance(self.file, Unset):
            file = self.file

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "code": code,
                "line": line,
                "field": field,
                "message": message,
            }
        )
        if file is not UNSET:
            field_dict["file"] = file

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        code = d.pop("code")

        def _parse_line(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        line = _parse_line(d.pop("line"))

        def _parse_field(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        field = _parse_field(d.pop("field"))

        message = d.pop("message")

        _file = d.pop("file", UNSET)
        file: DatasetErrorFile | Unset
        if isinstance(_file, Unset):
            file = UNSET
        else:
            file = check_dataset_error_file(_file)

        dataset_error = cls(
            code=code,
            line=line,
            field=field,
            message=message,
            file=file,
        )

        return dataset_error
