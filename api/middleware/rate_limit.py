"""Limits on the requests and tokens per minute of each project."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import RateLimited
from api.rate_limits import take
from storage.access.keys import Principal


class RateLimitMiddleware:
    """Rejects requests while a token bucket of the project is empty.

    Response headers report the state of the buckets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal | None = scope.get("state", {}).get("principal")
        if principal and (principal.limits.requests_per_minute or principal.limits.tokens_per_minute):
            await self._admit(scope, principal)
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope, principal: Principal) -> None:
        # Tokens are charged once the usage is known. Until then, one token in the bucket is enough.
        buckets = await take(scope["app"].state.resources.redis_scripts, principal, [1, 1, 1, 0])
        for bucket in buckets:
            scope["state"]["headers"] |= bucket.to_headers()
        slowest = max(buckets, key=lambda bucket: bucket.wait_ms, default=None)
        if slowest is not None and slowest.wait_ms > 0:
            raise RateLimited(slowest.kind, slowest.limit, slowest.wait_ms)
