from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.key_in_role import KeyInRole, check_key_in_role
from ..types import UNSET, Unset

T = TypeVar("T", bound="KeyIn")


@_attrs_define
class KeyIn:
    """A new key.

    Attributes:
        name (str):
        role (KeyInRole | Unset): ``admin`` can do everything and administers the organization. ``member`` can read,
            change and
            use models. ``inference`` can use models. ``read`` can read. Default: 'member'.
        expires_in_seconds (int | None | Unset): Null means that the key does not expire.
    """

    name: str
    role: KeyInRole | Unset = "member"
    expires_in_seconds: int | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        role: str | Unset = UNSET
        if not isinstance(self.role, Unset):
            role = self.role

        expires_in_seconds: int | None | Unset
        if isinstance(self.expires_in_seconds, Unset):
            expires_in_seconds = UNSET
        else:
            expires_in_seconds = self.expires_in_seconds

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "name": name,
            }
        )
        if role is not UNSET:
            field_dict["role"] = role
        if expires_in_seconds is not UNSET:
            field_dict["expires_in_seconds"] = expires_in_seconds

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        name = d.pop("name")

        _role = d.pop("role", UNSET)
        role: KeyInRole | Unset
        if isinstance(_role, Unset):
            role = UNSET
        else:
            role = check_key_in_role(_role)

        def _parse_expires_in_seconds(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        expires_in_seconds = _parse_expires_in_seconds(d.pop("expires_in_seconds", UNSET))

        key_in = cls(
            name=name,
            role=role,
            expires_in_seconds=expires_in_seconds,
        )

        return key_in
