"""Token buckets for requests and tokens a minute, shared by all API processes.

Buckets are stored in Redis. While Redis is unavailable nothing is limited: Redis must not stop the service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.access.keys import Principal
from storage.redis_scripts import TOKEN_BUCKETS, RedisScripts

# More than any bucket owes: what was used is taken, also from a bucket that is empty.
ALLOW_DEBT = -1e12

LimitKind = Literal["requests", "tokens"]
_LIMIT_KINDS: tuple[LimitKind, LimitKind] = ("requests", "tokens")


@dataclass(frozen=True)
class TokenBucket:
    """One of a project's two, after a request; times in milliseconds."""

    kind: LimitKind
    limit: int
    remaining: int
    wait_ms: int
    reset_ms: int

    def to_headers(self) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.limit),
            f"x-ratelimit-remaining-{self.kind}": str(self.remaining),
            f"x-ratelimit-reset-{self.kind}": format_duration(self.reset_ms),
        }


async def charge(scripts: RedisScripts, principal: Principal, tokens: int) -> None:
    """Take what a request used; a bucket may so owe, and passes nothing until it has filled up again."""
    if principal.limits.tokens_per_minute:
        await take(scripts, principal, [0, 0, ALLOW_DEBT, tokens])


async def take(scripts: RedisScripts, principal: Principal, demand: list[float]) -> list[TokenBucket]:
    """``asked``: level needed and cost, of requests and of tokens. Nothing where Redis is away."""
    limits = [principal.limits.requests_per_minute or 0, principal.limits.tokens_per_minute or 0]
    keys = [f"luthier:limit:{principal.project_id}:{kind}" for kind in _LIMIT_KINDS]
    answer = await scripts.run(TOKEN_BUCKETS, keys, [limits[0], *demand[:2], limits[1], *demand[2:]])
    if answer is None:
        return []
    held = (answer[1:4], answer[4:7])
    return [
        TokenBucket(kind, limit, *rest) for kind, limit, rest in zip(_LIMIT_KINDS, limits, held, strict=True) if limit
    ]


def format_duration(milliseconds: int) -> str:
    """As OpenAI writes it: ``12ms``, ``1s``, ``8.64s``, ``6m0s``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"
