from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define

from ..models.webhook_test_in_event_type import (
    WebhookTestInEventType,
    check_webhook_test_in_event_type,
)

T = TypeVar("T", bound="WebhookTestIn")


@_attrs_define
class WebhookTestIn:
    """
    Attributes:
        event_type (WebhookTestInEventType):
    """

    event_type: WebhookTestInEventType

    def to_dict(self) -> dict[str, Any]:
        event_type: str = self.event_type

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "event_type": event_type,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        event_type = check_webhook_test_in_event_type(d.pop("event_type"))

        webhook_test_in = cls(
            event_type=event_type,
        )

        return webhook_test_in
