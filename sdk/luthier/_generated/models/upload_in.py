from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.upload_in_purpose import UploadInPurpose, check_upload_in_purpose
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.expires_after import ExpiresAfter


T = TypeVar("T", bound="UploadIn")


@_attrs_define
class UploadIn:
    """The body of ``POST /v1/uploads``.

    Attributes:
        filename (str):
        purpose (UploadInPurpose):
        bytes_ (int): Size of the complete file; the sizes of the parts must add up to it.
        mime_type (str): Has no effect: the bytes are stored unchanged.
        expires_after (ExpiresAfter | None | Unset): Lifetime of the completed file; by default 30 days for ``batch``,
            unlimited for others.
    """

    filename: str
    purpose: UploadInPurpose
    bytes_: int
    mime_type: str
    expires_after: ExpiresAfter | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.expires_after import ExpiresAfter  # noqa: PLC0415

        filename = self.filename

        purpose: str = self.purpose

        bytes_ = self.bytes_

        mime_type = self.mime_type

        expires_after: dict[str, Any] | None | Unset
        if isinstance(self.expires_after, Unset):
            expires_after = UNSET
        elif isinstance(self.expires_after, ExpiresAfter):
            expires_after = self.expires_after.to_dict()
        else:
            expires_after = self.expires_after

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "filename": filename,
                "purpose": purpose,
                "bytes": bytes_,
                "mime_type": mime_type,
            }
        )
        if expires_after is not UNSET:
            field_dict["expires_after"] = expires_after

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.expires_after import ExpiresAfter  # noqa: PLC0415

        d = dict(src_dict)
        filename = d.pop("filename")

        purpose = check_upload_in_purpose(d.pop("purpose"))

        bytes_ = d.pop("bytes")

        mime_type = d.pop("mime_type")

        def _parse_expires_after(data: object) -> ExpiresAfter | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                expires_after_type_0 = ExpiresAfter.from_dict(data)

                return expires_after_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(ExpiresAfter | None | Unset, data)

        expires_after = _parse_expires_after(d.pop("expires_after", UNSET))

        upload_in = cls(
            filename=filename,
            purpose=purpose,
            bytes_=bytes_,
            mime_type=mime_type,
            expires_after=expires_after,
        )

        return upload_in
