from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.limits_in import LimitsIn


T = TypeVar("T", bound="ProjectUpdateIn")


@_attrs_define
class ProjectUpdateIn:
    """Changes to a project. Absent fields keep their values.

    Attributes:
        name (None | str | Unset):
        limits (LimitsIn | None | Unset): Only the limits that are sent change.
        external_key_id (None | Unset):
        geography (None | Unset):
    """

    name: None | str | Unset = UNSET
    limits: LimitsIn | None | Unset = UNSET
    external_key_id: None | Unset = UNSET
    geography: None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.limits_in import LimitsIn  # noqa: PLC0415

        name: None | str | Unset
        if isinstance(self.name, Unset):
            name = UNSET
        else:
            name = self.name

        limits: dict[str, Any] | None | Unset
        if isinstance(self.limits, Unset):
            limits = UNSET
        elif isinstance(self.limits, LimitsIn):
            limits = self.limits.to_dict()
        else:
            limits = self.limits

        external_key_id = self.external_key_id

        geography = self.geography

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if name is not UNSET:
            field_dict["name"] = name
        if limits is not UNSET:
            field_dict["limits"] = limits
        if external_key_id is not UNSET:
            field_dict["external_key_id"] = external_key_id
        if geography is not UNSET:
            field_dict["geography"] = geography

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.limits_in import LimitsIn  # noqa: PLC0415

        d = dict(src_dict)

        def _parse_name(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        name = _parse_name(d.pop("name", UNSET))

        def _parse_limits(data: object) -> LimitsIn | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                limits_type_0 = LimitsIn.from_dict(data)

                return limits_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(LimitsIn | None | Unset, data)

        limits = _parse_limits(d.pop("limits", UNSET))

        external_key_id = d.pop("external_key_id", UNSET)

        geography = d.pop("geography", UNSET)

        project_update_in = cls(
            name=name,
            limits=limits,
            external_key_id=external_key_id,
            geography=geography,
        )

        return project_update_in
