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

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.key_out import KeyOut
    from ..models.limits_out import LimitsOut
    from ..models.named_out import NamedOut
    from ..models.usage_today import UsageToday


T = TypeVar("T", bound="CurrentKeyOut")


@_attrs_define
class CurrentKeyOut:
    """The key of the request, with the limits and usage of its project.

    Attributes:
        key (KeyOut): A key of a project, without its secret value.
        project (NamedOut): A project or an organization.
        organization (NamedOut): A project or an organization.
        role (str):
        limits (LimitsOut):
        usage_today (UsageToday): Usage of a key today (UTC).
        stored_bytes (int): Total size of the project's files and open uploads.
        running_jobs (int):
        object_ (Literal['organization.me'] | Unset):  Default: 'organization.me'.
    """

    key: KeyOut
    project: NamedOut
    organization: NamedOut
    role: str
    limits: LimitsOut
    usage_today: UsageToday
    stored_bytes: int
    running_jobs: int
    object_: Literal["organization.me"] | Unset = "organization.me"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        key = self.key.to_dict()

        project = self.project.to_dict()

        organization = self.organization.to_dict()

        role = self.role

        limits = self.limits.to_dict()

        usage_today = self.usage_today.to_dict()

        stored_bytes = self.stored_bytes

        running_jobs = self.running_jobs

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "key": key,
                "project": project,
                "organization": organization,
                "role": role,
                "limits": limits,
                "usage_today": usage_today,
                "stored_bytes": stored_bytes,
                "running_jobs": running_jobs,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.key_out import KeyOut  # noqa: PLC0415
        from ..models.limits_out import LimitsOut  # noqa: PLC0415
        from ..models.named_out import NamedOut  # noqa: PLC0415
        from ..models.usage_today import UsageToday  # noqa: PLC0415

        d = dict(src_dict)
        key = KeyOut.from_dict(d.pop("key"))

        project = NamedOut.from_dict(d.pop("project"))

        organization = NamedOut.from_dict(d.pop("organization"))

        role = d.pop("role")

        limits = LimitsOut.from_dict(d.pop("limits"))

        usage_today = UsageToday.from_dict(d.pop("usage_today"))

        stored_bytes = d.pop("stored_bytes")

        running_jobs = d.pop("running_jobs")

        object_ = cast(Literal["organization.me"] | Unset, d.pop("object", UNSET))
        if object_ != "organization.me" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'organization.me', got '{object_}'")

        current_key_out = cls(
            key=key,
            project=project,
            organization=organization,
            role=role,
            limits=limits,
            usage_today=usage_today,
            stored_bytes=stored_bytes,
            running_jobs=running_jobs,
            object_=object_,
        )

        current_key_out.additional_properties = d
        return current_key_out

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
