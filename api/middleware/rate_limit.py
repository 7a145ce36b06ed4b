"""Requests and tokens a minute, per project."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import RateLimited
from api.rate_limits import take
from storage.access.keys import Principal


class RateLimitMiddleware:
    """Lets a project's requests through while its buckets hold enough, and tells what they hold in every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal | None = scope.get("state", {}).get("principal")
        if principal and (principal.limits.requests_per_minute or principal.limits.tokens_per_minute):
            await self._admit(scope, principal)
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope, principal: Principal) -> None:
        # Tokens are taken when they are known; until then it is enough that some are left.
        buckets = await take(scope["app"].state.resources.scripts, principal, [1, 1, 1, 0])
        for bucket in buckets:
            scope["state"]["headers"] |= bucket.to_headers()
        waiting = max(buckets, key=lambda bucket: bucket.wait_ms, default=None)
        if waiting is not None and waiting.wait_ms > 0:
            raise RateLimited(waiting.kind, waiting.limit, waiting.wait_ms)
