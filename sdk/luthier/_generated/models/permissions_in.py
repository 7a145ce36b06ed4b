from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

T = TypeVar("T", bound="PermissionsIn")


@_attrs_define
class PermissionsIn:
    """Projects of the same organization that may use the checkpoint.

    Attributes:
        project_ids (list[str]):
    """

    project_ids: list[str]

    def to_dict(self) -> dict[str, Any]:
        project_ids = self.project_ids

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "project_ids": project_ids,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        project_ids = cast(list[str], d.pop("project_ids"))

        permissions_in = cls(
            project_ids=project_ids,
        )

        return permissions_in
