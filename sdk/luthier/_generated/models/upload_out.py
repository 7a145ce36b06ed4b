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
from attrs import field as _attrs_field

from ..models.upload_out_status import UploadOutStatus, check_upload_out_status
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.file_out import FileOut


T = TypeVar("T", bound="UploadOut")


@_attrs_define
class UploadOut:
    """A file that is uploaded in parts.

    Attributes:
        id (str):
        bytes_ (int):
        created_at (int):
        expires_at (int): Deadline to complete the upload.
        filename (str):
        purpose (str):
        status (UploadOutStatus):
        file (FileOut | None): The completed file; null before completion, and after the file was deleted.
        object_ (Literal['upload'] | Unset):  Default: 'upload'.
    """

    id: str
    bytes_: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadOutStatus
    file: FileOut | None
    object_: Literal["upload"] | Unset = "upload"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.file_out import FileOut  # noqa: PLC0415

        id = self.id

        bytes_ = self.bytes_

        created_at = self.created_at

        expires_at = self.expires_at

        filename = self.filename

        purpose = self.purpose

        status: str = self.status

        file: dict[str, Any] | None
        if isinstance(self.file, FileOut):
            file = self.file.to_dict()
        else:
            file = self.file

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "bytes": bytes_,
                "created_at": created_at,
                "expires_at": expires_at,
                "filename": filename,
                "purpose": purpose,
                "status": status,
                "file": file,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.file_out import FileOut  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        bytes_ = d.pop("bytes")

        created_at = d.pop("created_at")

        expires_at = d.pop("expires_at")

        filename = d.pop("filename")

        purpose = d.pop("purpose")

        status = check_upload_out_status(d.pop("status"))

        def _parse_file(data: object) -> FileOut | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                file_type_0 = FileOut.from_dict(data)

                return file_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(FileOut | None, data)

        file = _parse_file(d.pop("file"))

        object_ = cast(Literal["upload"] | Unset, d.pop("object", UNSET))
        if object_ != "upload" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'upload', got '{object_}'")

        upload_out = cls(
            id=id,
            bytes_=bytes_,
            created_at=created_at,
            expires_at=expires_at,
            filename=filename,
            purpose=purpose,
            status=status,
            file=file,
            object_=object_,
        )

        upload_out.additional_properties = d
        return upload_out

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
