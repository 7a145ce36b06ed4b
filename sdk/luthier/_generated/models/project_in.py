from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.limits_in import LimitsIn


T = TypeVar("T", bound="ProjectIn")


@_attrs_define
class ProjectIn:
    """A new project.

    Attributes:
        name (str):
        limits (LimitsIn | None | Unset):
        external_key_id (None | Unset):
        geography (None | Unset):
        residency (None | Unset):
    """

    name: str
    limits: LimitsIn | None | Unset = UNSET
    external_key_id: None | Unset = UNSET
    geography: None | Unset = UNSET
    residency: None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.limits_in import LimitsIn  # noqa: PLC0415

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

        residency = self.residency

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "name": name,
            }
        )
        if limits is not UNSET:
            field_dict["limits"] = limits
        if external_key_id is not UNSET:
            field_dict["external_key_id"] = external_key_id
        if geography is not UNSET:
            field_dict["geography"] = geography
        if residency is not UNSET:
            field_dict["residency"] = residency

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.limits_in import LimitsIn  # noqa: PLC0415

        d = dict(src_dict)
        name = d.pop("name")

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

        residency = d.pop("residency", UNSET)

        project_in = cls(
            name=name,
            limits=limits,
            external_key_id=external_key_id,
            geography=geography,
            residency=residency,
        )

        return project_in
