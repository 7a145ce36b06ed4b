"""Roles of API keys, and the permissions of each role."""

from __future__ import annotations

from enum import Enum
from typing import Literal

Role = Literal["admin", "member", "inference", "read"]


class Permission(Enum):
    """A permission that a route requires. The value describes it in error messages."""

    READ_SELF = "read its own key"
    READ_MODELS = "read models"
    READ = "read the project's objects"
    WRITE = "change the project's objects"
    INFER = "run inference"
    ADMINISTER = "administer the organization"


_COMMON_PERMISSIONS = frozenset({Permission.READ_SELF, Permission.READ_MODELS})
_MEMBER_PERMISSIONS = _COMMON_PERMISSIONS | {Permission.READ, Permission.WRITE, Permission.INFER}

ROLES: dict[str, frozenset[Permission]] = {
    "admin": _MEMBER_PERMISSIONS | {Permission.ADMINISTER},
    "member": _MEMBER_PERMISSIONS,
    "inference": _COMMON_PERMISSIONS | {Permission.INFER},
    "read": _COMMON_PERMISSIONS | {Permission.READ},
}


def has_permission(role: str, permission: Permission) -> bool:
    """Return True if the role has the permission. Unknown roles have none."""
    return permission in ROLES.get(role, frozenset())


def list_roles_with(permission: Permission) -> list[str]:
    return [role for role, allowed in ROLES.items() if permission in allowed]
