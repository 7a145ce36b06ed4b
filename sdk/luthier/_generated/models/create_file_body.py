from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeVar

from attrs import define as _attrs_define

from .. import types
from ..models.create_file_body_expires_afteranchor import (
    CreateFileBodyExpiresAfteranchor,
    check_create_file_body_expires_afteranchor,
)
from ..models.create_file_body_purpose import (
    CreateFileBodyPurpose,
    check_create_file_body_purpose,
)
from ..types import UNSET, File, Unset

T = TypeVar("T", bound="CreateFileBody")


@_attrs_define
class CreateFileBody:
    """
    Attributes:
        file (File):
        purpose (CreateFileBodyPurpose):
        expires_afteranchor (CreateFileBodyExpiresAfteranchor | Unset):
        expires_afterseconds (int | Unset):
    """

    file: File
    purpose: CreateFileBodyPurpose
    expires_afteranchor: CreateFileBodyExpiresAfteranchor | Unset = UNSET
    expires_afterseconds: int | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        file = self.file.to_tuple()

        purpose: str = self.purpose

        expires_afteranchor: str | Unset = UNSET
        if not isinstance(self.expires_afteranchor, Unset):
            expires_afteranchor = self.expires_afteranchor

        expires_afterseconds = self.expires_afterseconds

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "file": file,
                "purpose": purpose,
            }
        )
        if expires_afteranchor is not UNSET:
            field_dict["expires_after[anchor]"] = expires_afteranchor
        if expires_afterseconds is not UNSET:
            field_dict["expires_after[seconds]"] = expires_afterseconds

        return field_dict

    def to_multipart(self) -> types.RequestFiles:
        files: types.RequestFiles = []

        files.append(("file", self.file.to_tuple()))

        files.append(("purpose", (None, str(self.purpose).encode(), "text/plain")))

        if not isinstance(self.expires_afteranchor, Unset):
            files.append(("expires_after[anchor]", (None, str(self.expires_afteranchor).encode(), "text/plain")))

        if not isinstance(self.expires_afterseconds, Unset):
            files.append(("expires_after[seconds]", (None, str(self.expires_afterseconds).encode(), "text/plain")))

        return files

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        file = File(payload=BytesIO(d.pop("file")))

        purpose = check_create_file_body_purpose(d.pop("purpose"))

        _expires_afteranchor = d.pop("expires_after[anchor]", UNSET)
        expires_afteranchor: CreateFileBodyExpiresAfteranchor | Unset
        if isinstance(_expires_afteranchor, Unset):
            expires_afteranchor = UNSET
        else:
            expires_afteranchor = check_create_file_body_expires_afteranchor(_expires_afteranchor)

        expires_afterseconds = d.pop("expires_after[seconds]", UNSET)

        create_file_body = cls(
            file=file,
            purpose=purpose,
            expires_afteranchor=expires_afteranchor,
            expires_afterseconds=expires_afterseconds,
        )

        return create_file_body
