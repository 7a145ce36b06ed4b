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

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.audit_actor_out_api_key import AuditActorOutApiKey


T = TypeVar("T", bound="AuditActorOut")


@_attrs_define
class AuditActorOut:
    """The key that made the change. Its ``id`` is ``luthierd`` for changes with that command.

    Attributes:
        api_key (AuditActorOutApiKey):
        type_ (Literal['api_key'] | Unset):  Default: 'api_key'.
    """

    api_key: AuditActorOutApiKey
    type_: Literal["api_key"] | Unset = "api_key"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        api_key = self.api_key.to_dict()

        type_ = self.type_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "api_key": api_key,
            }
        )
        if type_ is not UNSET:
            field_dict["type"] = type_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.audit_actor_out_api_key import AuditActorOutApiKey  # noqa: PLC0415

        d = dict(src_dict)
        api_key = AuditActorOutApiKey.from_dict(d.pop("api_key"))

        type_ = cast(Literal["api_key"] | Unset, d.pop("type", UNSET))
        if type_ != "api_key" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'api_key', got '{type_}'")

        audit_actor_out = cls(
            api_key=api_key,
            type_=type_,
        )

        audit_actor_out.additional_properties = d
        return audit_actor_out

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
