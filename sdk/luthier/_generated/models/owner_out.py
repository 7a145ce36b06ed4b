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
    from ..models.service_account_out import ServiceAccountOut


T = TypeVar("T", bound="OwnerOut")


@_attrs_define
class OwnerOut:
    """Owner of a key. OpenAI's keys have an owner; here, each key is its own service account.

    Attributes:
        service_account (ServiceAccountOut):
        type_ (Literal['service_account'] | Unset):  Default: 'service_account'.
    """

    service_account: ServiceAccountOut
    type_: Literal["service_account"] | Unset = "service_account"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        service_account = self.service_account.to_dict()

        type_ = self.type_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "service_account": service_account,
            }
        )
        if type_ is not UNSET:
            field_dict["type"] = type_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.service_account_out import ServiceAccountOut  # noqa: PLC0415

        d = dict(src_dict)
        service_account = ServiceAccountOut.from_dict(d.pop("service_account"))

        type_ = cast(Literal["service_account"] | Unset, d.pop("type", UNSET))
        if type_ != "service_account" and not isinstance(type_, Unset):
            raise ValueError(f"type must match const 'service_account', got '{type_}'")

        owner_out = cls(
            service_account=service_account,
            type_=type_,
        )

        owner_out.additional_properties = d
        return owner_out

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
