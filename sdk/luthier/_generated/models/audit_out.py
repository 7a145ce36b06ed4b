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
    from ..models.audit_actor_out import AuditActorOut
    from ..models.audit_out_detail_type_0 import AuditOutDetailType0
    from ..models.named_out import NamedOut


T = TypeVar("T", bound="AuditOut")


@_attrs_define
class AuditOut:
    """One change in the audit log.

    Attributes:
        id (str):
        type_ (str): ``{object}.{verb}``, such as ``file.deleted``.
        effective_at (int):
        project (NamedOut): A project or an organization.
        actor (AuditActorOut): The key that made the change. Its ``id`` is ``luthierd`` for changes with that command.
        target (str): Id of the changed object.
        request_id (str):
        detail (AuditOutDetailType0 | None):
        object_ (Literal['organization.audit_log'] | Unset):  Default: 'organization.audit_log'.
    """

    id: str
    type_: str
    effective_at: int
    project: NamedOut
    actor: AuditActorOut
    target: str
    request_id: str
    detail: AuditOutDetailType0 | None
    object_: Literal["organization.audit_log"] | Unset = "organization.audit_log"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.audit_out_detail_type_0 import AuditOutDetailType0  # noqa: PLC0415

        id = self.id

        type_ = self.type_

        effective_at = self.effective_at

        project = self.project.to_dict()

        actor = self.actor.to_dict()

        target = self.target

        request_id = self.request_id

        detail: dict[str, Any] | None
        if isinstance(self.detail, AuditOutDetailType0):
            detail = self.detail.to_dict()
        else:
            detail = self.detail

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "type": type_,
                "effective_at": effective_at,
                "project": project,
                "actor": actor,
                "target": target,
                "request_id": request_id,
                "detail": detail,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.audit_actor_out import AuditActorOut  # noqa: PLC0415
        from ..models.audit_out_detail_type_0 import AuditOutDetailType0  # noqa: PLC0415
        from ..models.named_out import NamedOut  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        type_ = d.pop("type")

        effective_at = d.pop("effective_at")

        project = NamedOut.from_dict(d.pop("project"))

        actor = AuditActorOut.from_dict(d.pop("actor"))

        target = d.pop("target")

        request_id = d.pop("request_id")

        def _parse_detail(data: object) -> AuditOutDetailType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                detail_type_0 = AuditOutDetailType0.from_dict(data)

                return detail_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(AuditOutDetailType0 | None, data)

        detail = _parse_detail(d.pop("detail"))

        object_ = cast(Literal["organization.audit_log"] | Unset, d.pop("object", UNSET))
        if object_ != "organization.audit_log" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'organization.audit_log', got '{object_}'")

        audit_out = cls(
            id=id,
            type_=type_,
            effective_at=effective_at,
            project=project,
            actor=actor,
            target=target,
            request_id=request_id,
            detail=detail,
            object_=object_,
        )

        audit_out.additional_properties = d
        return audit_out

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
