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

from ..models.event_out_level import EventOutLevel, check_event_out_level
from ..models.event_out_type import EventOutType, check_event_out_type
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.event_out_data_type_0 import EventOutDataType0


T = TypeVar("T", bound="EventOut")


@_attrs_define
class EventOut:
    """An event of a fine-tuning job.

    Attributes:
        id (str):
        created_at (int):
        level (EventOutLevel):
        message (str):
        type_ (EventOutType):
        data (EventOutDataType0 | None):
        object_ (Literal['fine_tuning.job.event'] | Unset):  Default: 'fine_tuning.job.event'.
    """

    id: str
    created_at: int
    level: EventOutLevel
    message: str
    type_: EventOutType
    data: EventOutDataType0 | None
    object_: Literal["fine_tuning.job.event"] | Unset = "fine_tuning.job.event"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.event_out_data_type_0 import EventOutDataType0  # noqa: PLC0415

        id = self.id

        created_at = self.created_at

        level: str = self.level

        message = self.message

        type_: str = self.type_

        data: dict[str, Any] | None
        if isinstance(self.data, EventOutDataType0):
            data = self.data.to_dict()
        else:
            data = self.data

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "created_at": created_at,
                "level": level,
                "message": message,
                "type": type_,
                "data": data,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.event_out_data_type_0 import EventOutDataType0  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        created_at = d.pop("created_at")

        level = check_event_out_level(d.pop("level"))

        message = d.pop("message")

        type_ = check_event_out_type(d.pop("type"))

        def _parse_data(data: object) -> EventOutDataType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                data_type_0 = EventOutDataType0.from_dict(data)

                return data_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(EventOutDataType0 | None, data)

        data = _parse_data(d.pop("data"))

        object_ = cast(Literal["fine_tuning.job.event"] | Unset, d.pop("object", UNSET))
        if object_ != "fine_tuning.job.event" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'fine_tuning.job.event', got '{object_}'")

        event_out = cls(
            id=id,
            created_at=created_at,
            level=level,
            message=message,
            type_=type_,
            data=data,
            object_=object_,
        )

        event_out.additional_properties = d
        return event_out

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
