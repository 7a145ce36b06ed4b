from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define

from ..models.webhook_in_event_types_item import (
    WebhookInEventTypesItem,
    check_webhook_in_event_types_item,
)

T = TypeVar("T", bound="WebhookIn")


@_attrs_define
class WebhookIn:
    """The body of ``POST /v1/webhook_endpoints``.

    Attributes:
        name (str):
        url (str): A public ``https://`` URL; the operator can allow others.
        event_types (list[WebhookInEventTypesItem]):
    """

    name: str
    url: str
    event_types: list[WebhookInEventTypesItem]

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        url = self.url

        event_types = []
        for event_types_item_data in self.event_types:
            event_types_item: str = event_types_item_data
            event_types.append(event_types_item)

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "name": name,
                "url": url,
                "event_types": event_types,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        name = d.pop("name")

        url = d.pop("url")

        event_types = []
        _event_types = d.pop("event_types")
        for event_types_item_data in _event_types:
            event_types_item = check_webhook_in_event_types_item(event_types_item_data)

            event_types.append(event_types_item)

        webhook_in = cls(
            name=name,
            url=url,
            event_types=event_types,
        )

        return webhook_in
