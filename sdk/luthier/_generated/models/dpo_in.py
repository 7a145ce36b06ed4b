from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.dpo_hyperparameters import DpoHyperparameters


T = TypeVar("T", bound="DpoIn")


@_attrs_define
class DpoIn:
    """
    Attributes:
        hyperparameters (DpoHyperparameters | None | Unset):
    """

    hyperparameters: DpoHyperparameters | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.dpo_hyperparameters import DpoHyperparameters  # noqa: PLC0415

        hyperparameters: dict[str, Any] | None | Unset
        if isinstance(self.hyperparameters, Unset):
            hyperparameters = UNSET
        elif isinstance(self.hyperparameters, DpoHyperparameters):
            hyperparameters = self.hyperparameters.to_dict()
        else:
            hyperparameters = self.hyperparameters

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if hyperparameters is not UNSET:
            field_dict["hyperparameters"] = hyperparameters

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.dpo_hyperparameters import DpoHyperparameters  # noqa: PLC0415

        d = dict(src_dict)

        def _parse_hyperparameters(data: object) -> DpoHyperparameters | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                hyperparameters_type_0 = DpoHyperparameters.from_dict(data)

                return hyperparameters_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(DpoHyperparameters | None | Unset, data)

        hyperparameters = _parse_hyperparameters(d.pop("hyperparameters", UNSET))

        dpo_in = cls(
            hyperparameters=hyperparameters,
        )

        return dpo_in
