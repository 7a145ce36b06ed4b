"""Quota of the bytes that a project stores."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import InvalidRequest
from storage.access.keys import Principal
from storage.access.limits import QuotaExceeded, check_storage_quota


async def check_quota(session: AsyncSession, principal: Principal, added_bytes: int) -> None:
    """Check that the project may store ``added_bytes`` more. Raises ``InvalidRequest``.

    Call it in the transaction that adds the bytes.
    """
    try:
        await check_storage_quota(session, principal.project_id, principal.limits.max_bytes, added_bytes)
    except QuotaExceeded as error:
        raise InvalidRequest(str(error), code="quota_exceeded") from None
