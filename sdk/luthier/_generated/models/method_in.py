from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.method_in_type import MethodInType, check_method_in_type
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.dpo_in import DpoIn
    from ..models.method_in_reinforcement_type_0 import MethodInReinforcementType0
    from ..models.supervised_in import SupervisedIn


T = TypeVar("T", bound="MethodIn")


@_attrs_define
class MethodIn:
    """The training method. Only the block that ``type`` names is read.

    Attributes:
        type_ (MethodInType):
        supervised (None | SupervisedIn | Unset):
        dpo (DpoIn | None | Unset):
        reinforcement (MethodInReinforcementType0 | None | Unset):
    """

    type_: MethodInType
    supervised: None | SupervisedIn | Unset = UNSET
    dpo: DpoIn | None | Unset = UNSET
    reinforcement: MethodInReinforcementType0 | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.dpo_in import DpoIn  # noqa: PLC0415
        from ..models.method_in_reinforcement_type_0 import MethodInReinforcementType0  # noqa: PLC0415
        from ..models.supervised_in import SupervisedIn  # noqa: PLC0415

        type_: str = self.type_

        supervised: dict[str, Any] | None | Unset
        if isinstance(self.supervised, Unset):
            supervised = UNSET
        elif isinstance(self.supervised, SupervisedIn):
            supervised = self.supervised.to_dict()
        else:
            supervised = self.supervised

        dpo: dict[str, Any] | None | Unset
        if isinstance(self.dpo, Unset):
            dpo = UNSET
        elif isinstance(self.dpo, DpoIn):
            dpo = self.dpo.to_dict()
        else:
            dpo = self.dpo

        reinforcement: dict[str, Any] | None | Unset
        if isinstance(self.reinforcement, Unset):
            reinforcement = UNSET
        elif isinstance(self.reinforcement, MethodInReinforcementType0):
            reinforcement = self.reinforcement.to_dict()
        else:
            reinforcement = self.reinforcement

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
            }
        )
        if supervised is not UNSET:
            field_dict["supervised"] = supervised
        if dpo is not UNSET:
            field_dict["dpo"] = dpo
        if reinforcement is not UNSET:
            field_dict["reinforcement"] = reinforcement

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.dpo_in import DpoIn  # noqa: PLC0415
        from ..models.method_in_reinforcement_type_0 import MethodInReinforcementType0  # noqa: PLC0415
        from ..models.supervised_in import SupervisedIn  # noqa: PLC0415

        d = dict(src_dict)
        type_ = check_method_in_type(d.pop("type"))

        def _parse_supervised(data: object) -> None | SupervisedIn | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                supervised_type_0 = SupervisedIn.from_dict(data)

                return supervised_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | SupervisedIn | Unset, data)

        supervised = _parse_supervised(d.pop("supervised", UNSET))

        def _parse_dpo(data: object) -> DpoIn | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                dpo_type_0 = DpoIn.from_dict(data)

                return dpo_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(DpoIn | None | Unset, data)

        dpo = _parse_dpo(d.pop("dpo", UNSET))

        def _parse_reinforcement(data: object) -> MethodInReinforcementType0 | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                reinforcement_type_0 = MethodInReinforcementType0.from_dict(data)

                return reinforcement_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(MethodInReinforcementType0 | None | Unset, data)

        reinforcement = _parse_reinforcement(d.pop("reinforcement", UNSET))

        method_in = cls(
            type_=type_,
            supervised=supervised,
            dpo=dpo,
            reinforcement=reinforcement,
        )

        return method_in
