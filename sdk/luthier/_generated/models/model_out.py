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

T = TypeVar("T", bound="ModelOut")


@_attrs_define
class ModelOut:
    """A base model, a fine-tuned model or a checkpoint.

    Attributes:
        id (str):
        created (int): 0 for base models, which the operator lists without a date, and for checkpoints.
        owned_by (str): ``luthier`` for a base model, else the project's id.
        tasks (list[str]): Tasks of a base model, the default first, or the task of a fine-tuned model.
        base_model (None | str): Base model of a fine-tuned model.
        update (None | str):
        available (bool): False if the operator lists the model but its files are not on this machine yet.
        object_ (Literal['model'] | Unset):  Default: 'model'.
    """

    id: str
    created: int
    owned_by: str
    tasks: list[str]
    base_model: None | str
    update: None | str
    available: bool
    object_: Literal["model"] | Unset = "model"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        created = self.created

        owned_by = self.owned_by

        tasks = self.tasks

        base_model: None | str
        base_model = self.base_model

        update: None | str
        update = self.update

        available = self.available

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "created": created,
                "owned_by": owned_by,
                "tasks": tasks,
                "base_model": base_model,
                "update": update,
                "available": available,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        created = d.pop("created")

        owned_by = d.pop("owned_by")

        tasks = cast(list[str], d.pop("tasks"))

        def _parse_base_model(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        base_model = _parse_base_model(d.pop("base_model"))

        def _parse_update(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        update = _parse_update(d.pop("update"))

        available = d.pop("available")

        object_ = cast(Literal["model"] | Unset, d.pop("object", UNSET))
        if object_ != "model" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'model', got '{object_}'")

        model_out = cls(
            id=id,
            created=created,
            owned_by=owned_by,
            tasks=tasks,
            base_model=base_model,
            update=update,
            available=available,
            object_=object_,
        )

        model_out.additional_properties = d
        return model_out

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
