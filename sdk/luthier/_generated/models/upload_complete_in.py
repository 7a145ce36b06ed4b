from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="UploadCompleteIn")


@_attrs_define
class UploadCompleteIn:
    """The body of ``POST /v1/uploads/{upload_id}/complete``.

    Attributes:
        part_ids (list[str]): Ids of the parts in the order of the file, which may differ from the order of arrival.
        md5 (None | str | Unset): MD5 of the complete file, in hexadecimal. If it differs, no file is created.
    """

    part_ids: list[str]
    md5: None | str | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        part_ids = self.part_ids

        md5: None | str | Unset
        if isinstance(self.md5, Unset):
            md5 = UNSET
        else:
            md5 = self.md5

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "part_ids": part_ids,
            }
        )
        if md5 is not UNSET:
            field_dict["md5"] = md5

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        part_ids = cast(list[str], d.pop("part_ids"))

        def _parse_md5(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        md5 = _parse_md5(d.pop("md5", UNSET))

        upload_complete_in = cls(
            part_ids=part_ids,
            md5=md5,
        )

        return upload_complete_in
