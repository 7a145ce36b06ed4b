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

from ..models.project_out_status import ProjectOutStatus, check_project_out_status
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.limits_out import LimitsOut


T = TypeVar("T", bound="ProjectOut")


@_attrs_define
class ProjectOut:
    """A project, which owns files, jobs, models and keys.

    Attributes:
        id (str):
        name (str):
        created_at (int):
        archived_at (int | None):
        status (ProjectOutStatus):
        limits (LimitsOut):
        object_ (Literal['organization.project'] | Unset):  Default: 'organization.project'.
    """

    id: str
    name: str
    created_at: int
    archived_at: int | None
    status: ProjectOutStatus
    limits: LimitsOut
    object_: Literal["organization.project"] | Unset = "organization.project"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        name = self.name

        created_at = self.created_at

        archived_at: int | None
        archived_at = self.archived_at

        status: str = self.status

        limits = self.limits.to_dict()

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "name": name,
                "created_at": created_at,
                "archived_at": archived_at,
                "status": status,
                "limits": limits,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.limits_out import LimitsOut  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        name = d.pop("name")

        created_at = d.pop("created_at")

        def _parse_archived_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        archived_at = _parse_archived_at(d.pop("archived_at"))

        status = check_project_out_status(d.pop("status"))

        limits = LimitsOut.from_dict(d.pop("limits"))

        object_ = cast(Literal["organization.project"] | Unset, d.pop("object", UNSET))
        if object_ != "organization.project" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'organization.project', got '{object_}'")

        project_out = cls(
            id=id,
            name=name,
            created_at=created_at,
            archived_at=archived_at,
            status=status,
            limits=limits,
            object_=object_,
        )

        project_out.additional_properties = d
        return project_out

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
