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

from ..models.delivery_out_state import DeliveryOutState, check_delivery_out_state
from ..types import UNSET, Unset

T = TypeVar("T", bound="DeliveryOut")


@_attrs_define
class DeliveryOut:
    """The delivery of one event to one webhook.

    Attributes:
        id (str): Value of the ``webhook-id`` header, the same in every attempt.
        created_at (int):
        event_type (str):
        state (DeliveryOutState):
        tries (int):
        next_try_at (int | None):
        status_code (int | None): Status of the last response; null without a response.
        note (None | str): Reason why the last attempt failed.
        object_ (Literal['webhook_endpoint.delivery'] | Unset):  Default: 'webhook_endpoint.delivery'.
    """

    id: str
    created_at: int
    event_type: str
    state: DeliveryOutState
    tries: int
    next_try_at: int | None
    status_code: int | None
    note: None | str
    object_: Literal["webhook_endpoint.delivery"] | Unset = "webhook_endpoint.delivery"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        created_at = self.created_at

        event_type = self.event_type

        state: str = self.state

        tries = self.tries

        next_try_at: int | None
        next_try_at = self.next_try_at

        status_code: int | None
        status_code = self.status_code

        note: None | str
        note = self.note

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "created_at": created_at,
                "event_type": event_type,
                "state": state,
                "tries": tries,
                "next_try_at": next_try_at,
                "status_code": status_code,
                "note": note,
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

        event_type = d.pop("event_type")

        state = check_delivery_out_state(d.pop("state"))

        tries = d.pop("tries")

        def _parse_next_try_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        next_try_at = _parse_next_try_at(d.pop("next_try_at"))

        def _parse_status_code(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        status_code = _parse_status_code(d.pop("status_code"))

        def _parse_note(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        note = _parse_note(d.pop("note"))

        object_ = cast(Literal["webhook_endpoint.delivery"] | Unset, d.pop("object", UNSET))
        if object_ != "webhook_endpoint.delivery" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'webhook_endpoint.delivery', got '{object_}'")

        delivery_out = cls(
            id=id,
            created_at=created_at,
            event_type=event_type,
            state=state,
            tries=tries,
            next_try_at=next_try_at,
            status_code=status_code,
            note=note,
            object_=object_,
        )

        delivery_out.additional_properties = d
        return delivery_out

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
