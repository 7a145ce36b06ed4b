"""What a key may do: four roles, and what each of them allows."""

from __future__ import annotations

from enum import Enum
from typing import Literal

Role = Literal["admin", "member", "inference", "read"]


class Permission(Enum):
    """One kind of thing that a request does."""

    READ_SELF = "ask what the key is"
    READ_MODELS = "look at models"
    READ = "look at the project's things"
    WRITE = "change the project's things"
    INFER = "have a model answer"
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
    """False, too, for a role that this version does not know."""
    return permission in ROLES.get(role, frozenset())


def list_roles_with(permission: Permission) -> list[str]:
    return [role for role, allowed in ROLES.items() if permission in allowed]
