"""Audit log of changes. An entry is written in the transaction of its change and never altered."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from storage.access.keys import Principal
from storage.ids import new_id
from storage.tables import AuditEntry


async def audit(
    session: AsyncSession,
    principal: Principal,
    action: str,
    target: str,
    request_id: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an audit entry.

    ``action`` is ``{object}.{verb}``, such as ``file.deleted``. ``target`` is the id of the changed
    object. ``detail`` must not contain secrets.
    """
    session.add(
        AuditEntry(
            id=new_id("audit"),
            organization_id=principal.organization_id,
            project_id=principal.project_id,
            key_id=principal.key_id,
            created_at=time.time(),
            action=action,
            target=target,
            request_id=request_id or principal.request_id,
            detail=detail,
        )
    )
