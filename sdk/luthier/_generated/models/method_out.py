from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.method_out_type import MethodOutType, check_method_out_type
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.method_hyperparameters_out import MethodHyperparametersOut


T = TypeVar("T", bound="MethodOut")


@_attrs_define
class MethodOut:
    """
    Attributes:
        type_ (MethodOutType):
        supervised (MethodHyperparametersOut | None | Unset):
        dpo (MethodHyperparametersOut | None | Unset):
    """

    type_: MethodOutType
    supervised: MethodHyperparametersOut | None | Unset = UNSET
    dpo: MethodHyperparametersOut | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.method_hyperparameters_out import MethodHyperparametersOut  # noqa: PLC0415

        type_: str = self.type_

        supervised: dict[str, Any] | None | Unset
        if isinstance(self.supervised, Unset):
            supervised = UNSET
        elif isinstance(self.supervised, MethodHyperparametersOut):
            supervised = self.supervised.to_dict()
        else:
            supervised = self.supervised

        dpo: dict[str, Any] | None | Unset
        if isinstance(self.dpo, Unset):
            dpo = UNSET
        elif isinstance(self.dpo, MethodHyperparametersOut):
            dpo = self.dpo.to_dict()
        else:
            dpo = self.dpo

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "type": type_,
            }
        )
        if supervised is not UNSET:
            field_dict["supervised"] = supervised
        if dpo is not UNSET:
            field_dict["dpo"] = dpo

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.method_hyperparameters_out import MethodHyperparametersOut  # noqa: PLC0415

        d = dict(src_dict)
        type_ = check_method_out_type(d.pop("type"))

        def _parse_supervised(data: object) -> MethodHyperparametersOut | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                supervised_type_0 = MethodHyperparametersOut.from_dict(data)

                return supervised_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(MethodHyperparametersOut | None | Unset, data)

        supervised = _parse_supervised(d.pop("supervised", UNSET))

        def _parse_dpo(data: object) -> MethodHyperparametersOut | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                dpo_type_0 = MethodHyperparametersOut.from_dict(data)

                return dpo_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(MethodHyperparametersOut | None | Unset, data)

        dpo = _parse_dpo(d.pop("dpo", UNSET))

        method_out = cls(
            type_=type_,
            supervised=supervised,
            dpo=dpo,
        )

        method_out.additional_properties = d
        return method_out

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
