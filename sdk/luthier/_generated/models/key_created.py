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

from ..models.key_created_owner_project_access import (
    KeyCreatedOwnerProjectAccess,
    check_key_created_owner_project_access,
)
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.owner_out import OwnerOut


T = TypeVar("T", bound="KeyCreated")


@_attrs_define
class KeyCreated:
    """A new key. ``value`` is shown only in this response.

    Attributes:
        id (str):
        name (str):
        role (str):
        redacted_value (str):
        created_at (int):
        expires_at (int | None):
        owner (OwnerOut): Owner of a key. OpenAI's keys have an owner; here, each key is its own service account.
        value (str):
        object_ (Literal['organization.project.api_key'] | Unset):  Default: 'organization.project.api_key'.
        owner_project_access (KeyCreatedOwnerProjectAccess | Unset):  Default: 'active'.
    """

    id: str
    name: str
    role: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    owner: OwnerOut
    value: str
    object_: Literal["organization.project.api_key"] | Unset = "organization.project.api_key"
    owner_project_access: KeyCreatedOwnerProjectAccess | Unset = "active"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        name = self.name

        role = self.role

        redacted_value = self.redacted_value

        created_at = self.created_at

        expires_at: int | None
        expires_at = self.expires_at

        owner = self.owner.to_dict()

        value = self.value

        object_ = self.object_

        owner_project_access: str | Unset = UNSET
        if not isinstance(self.owner_project_access, Unset):
            owner_project_access = self.owner_project_access

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "name": name,
                "role": role,
                "redacted_value": redacted_value,
                "created_at": created_at,
                "expires_at": expires_at,
                "owner": owner,
                "value": value,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_
        if owner_project_access is not UNSET:
            field_dict["owner_project_access"] = owner_project_access

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.owner_out import OwnerOut  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        name = d.pop("name")

        role = d.pop("role")

        redacted_value = d.pop("redacted_value")

        created_at = d.pop("created_at")

        def _parse_expires_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        expires_at = _parse_expires_at(d.pop("expires_at"))

        owner = OwnerOut.from_dict(d.pop("owner"))

        value = d.pop("value")

        object_ = cast(Literal["organization.project.api_key"] | Unset, d.pop("object", UNSET))
        if object_ != "organization.project.api_key" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'organization.project.api_key', got '{object_}'")

        _owner_project_access = d.pop("owner_project_access", UNSET)
        owner_project_access: KeyCreatedOwnerProjectAccess | Unset
        if isinstance(_owner_project_access, Unset):
            owner_project_access = UNSET
        else:
            owner_project_access = check_key_created_owner_project_access(_owner_project_access)

        key_created = cls(
            id=id,
            name=name,
            role=role,
            redacted_value=redacted_value,
            created_at=created_at,
            expires_at=expires_at,
            owner=owner,
            value=value,
            object_=object_,
            owner_project_access=owner_project_access,
        )

        key_created.additional_properties = d
        return key_created

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
