from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="WebhookOut")


@_attrs_define
class WebhookOut:
    """A URL that receives a project's events.

    Attributes:
        id (str):
        created_at (int):
        updated_at (int):
        name (str):
        url (str):
        event_types (list[str]):
        signing_secret_hint (str):
        enabled (bool):
        disabled_at (int | None):
        note (None | str): Reason why the server disabled the webhook.
        failures (int): Deliveries given up since the last successful one.
        object_ (Literal['webhook_endpoint'] | Unset):  Default: 'webhook_endpoint'.
    """

    id: str
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    enabled: bool
    disabled_at: int | None
    note: None | str
    failures: int
    object_: Literal["webhook_endpoint"] | Unset = "webhook_endpoint"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        created_at = self.created_at

        updated_at = self.updated_at

        name = self.name

        url = self.url

        event_types = self.event_types

        signing_secret_hint = self.signing_secret_hint

        enabled = self.enabled

        disabled_at: int | None
        disabled_at = self.disabled_at

        note: None | str
        note = self.note

        failures = self.failures

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "created_at": created_at,
                "updated_at": updated_at,
                "name": name,
                "url": url,
                "event_types": event_types,
                "signing_secret_hint": signing_secret_hint,
                "enabled": enabled,
                "disabled_at": disabled_at,
                "note": note,
                "failures": failures,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        created_at = d.pop("created_at")

        updated_at = d.pop("updated_at")

        name = d.pop("name")

        url = d.pop("url")

        event_types = cast(list[str], d.pop("event_types"))

        signing_secret_hint = d.pop("signing_secret_hint")

        enabled = d.pop("enabled")

        def _parse_disabled_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        disabled_at = _parse_disabled_at(d.pop("disabled_at"))

        def _parse_note(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        note = _parse_note(d.pop("note"))

        failures = d.pop("failures")

        object_ = cast(Literal["webhook_endpoint"] | Unset, d.pop("object", UNSET))
        if object_ != "webhook_endpoint" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'webhook_endpoint', got '{object_}'")

        webhook_out = cls(
            id=id,
            created_at=created_at,
            updated_at=updated_at,
            name=name,
            url=url,
            event_types=event_types,
            signing_secret_hint=signing_secret_hint,
            enabled=enabled,
            disabled_at=disabled_at,
            note=note,
            failures=failures,
            object_=object_,
        )

        webhook_out.additional_properties = d
        return webhook_out

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
