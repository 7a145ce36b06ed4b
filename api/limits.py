"""What a project may use: requests and tokens a minute, in buckets that all API processes share, and bytes.

Buckets lie in Redis. Where Redis is away nothing is limited: a queue that cannot be rung must not stop the service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import InvalidRequest, RateLimited
from jobs.wakeup import Bell
from storage.access.keys import Principal
from storage.access.limits import QuotaExceeded, check_bytes

# A bucket holds a minute's worth and fills steadily; ``{level, at}`` is what it held when, in Redis' milliseconds.
# KEYS: requests, tokens. ARGV for each: limit a minute (0: none), level needed to pass, what passing takes.
# Answers {passed, then for each: level, ms until it passes, ms until it is full}.
BUCKETS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local passed, levels, answer = 1, {}, {1}
for i, key in ipairs(KEYS) do
  local limit, needed = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  if limit > 0 then
    local held = redis.call('HMGET', key, 'level', 'at')
    local level = limit
    if held[1] then
      level = math.min(limit, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * limit / 60000)
    end
    levels[i] = level
    if level < needed then passed = 0 end
  end
end
for i, key in ipairs(KEYS) do
  local limit, needed, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local level = levels[i]
  local left, wait, full = 0, 0, 0
  if level then
    wait = math.max(0, math.ceil((needed - level) * 60000 / limit))
    if passed == 1 and cost > 0 then
      level = level - cost
      redis.call('HSET', key, 'level', tostring(level), 'at', now)
      redis.call('PEXPIRE', key, 1000 + math.ceil((limit - level) * 60000 / limit))
    end
    left, full = math.max(0, math.floor(level)), math.ceil((limit - level) * 60000 / limit)
  end
  for _, number in ipairs({left, wait, full}) do answer[#answer + 1] = number end
end
answer[1] = passed
return answer
"""

# More than any bucket owes: what was used is taken, also from a bucket that is empty.
_ANYWAY = -1e12

Kind = Literal["requests", "tokens"]
_KINDS: tuple[Kind, Kind] = ("requests", "tokens")


@dataclass(frozen=True)
class Bucket:
    """One of a project's two, after a request; times in milliseconds."""

    kind: Kind
    limit: int
    left: int
    wait: int
    full: int

    def headers(self) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.limit),
            f"x-ratelimit-remaining-{self.kind}": str(self.left),
            f"x-ratelimit-reset-{self.kind}": duration(self.full),
        }


class Paced:
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
        buckets = await _reckoned(scope["app"].state.rooms.bell, principal, [1, 1, 1, 0])
        for bucket in buckets:
            scope["state"]["headers"] |= bucket.headers()
        waiting = max(buckets, key=lambda bucket: bucket.wait, default=None)
        if waiting is not None and waiting.wait > 0:
            raise RateLimited(waiting.kind, waiting.limit, waiting.wait)


async def spend(bell: Bell, principal: Principal, tokens: int) -> None:
    """Take what a request used; a bucket may so owe, and passes nothing until it has filled up again."""
    if principal.limits.tokens_per_minute:
        await _reckoned(bell, principal, [0, 0, _ANYWAY, tokens])


async def _reckoned(bell: Bell, principal: Principal, asked: list[float]) -> list[Bucket]:
    """``asked``: level needed and cost, of requests and of tokens. Nothing where Redis is away."""
    limits = [principal.limits.requests_per_minute or 0, principal.limits.tokens_per_minute or 0]
    keys = [f"luthier:limit:{principal.project_id}:{kind}" for kind in _KINDS]
    answer = await bell.reckon(BUCKETS, keys, [limits[0], *asked[:2], limits[1], *asked[2:]])
    if answer is None:
        return []
    held = (answer[1:4], answer[4:7])
    return [Bucket(kind, limit, *rest) for kind, limit, rest in zip(_KINDS, limits, held, strict=True) if limit]


def duration(milliseconds: int) -> str:
    """As OpenAI writes it: ``12ms``, ``1s``, ``8.64s``, ``6m0s``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"


async def check_quota(session: AsyncSession, principal: Principal, more: int) -> None:
    """In the transaction that adds ``more`` bytes. Raises ``InvalidRequest``."""
    try:
        await check_bytes(session, principal.project_id, principal.limits.max_bytes, more)
    except QuotaExceeded as error:
        raise InvalidRequest(str(error), code="quota_exceeded") from None
