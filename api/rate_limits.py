"""Token buckets for requests and tokens per minute, shared by all API processes.

Redis stores the buckets. While Redis is unavailable, nothing is limited, so that it cannot stop the
service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.access.keys import Principal
from storage.redis_scripts import TOKEN_BUCKETS, RedisScripts

# Required level when charging used tokens. Lower than any debt, so the charge always succeeds.
ALLOW_DEBT = -1e12

LimitKind = Literal["requests", "tokens"]
_LIMIT_KINDS: tuple[LimitKind, LimitKind] = ("requests", "tokens")


@dataclass(frozen=True)
class TokenBucket:
    """State of one of a project's two buckets after a request. Times are in milliseconds."""

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
    """Charge the tokens that a request used.

    The bucket can go negative. Requests are rejected until it refills above zero.
    """
    if principal.limits.tokens_per_minute:
        await take(scripts, principal, [0, 0, ALLOW_DEBT, tokens])


async def take(scripts: RedisScripts, principal: Principal, demand: list[float]) -> list[TokenBucket]:
    """Take from the project's buckets and return those with a limit, or none without Redis.

    ``demand``: required level and cost in requests, then required level and cost in tokens.
    """
    limits = [principal.limits.requests_per_minute or 0, principal.limits.tokens_per_minute or 0]
    keys = [f"luthier:limit:{principal.project_id}:{kind}" for kind in _LIMIT_KINDS]
    reply = await scripts.run(TOKEN_BUCKETS, keys, [limits[0], *demand[:2], limits[1], *demand[2:]])
    if reply is None:
        return []
    states = (reply[1:4], reply[4:7])
    return [
        TokenBucket(kind, limit, *state)
        for kind, limit, state in zip(_LIMIT_KINDS, limits, states, strict=True)
        if limit
    ]


def format_duration(milliseconds: int) -> str:
    """Format a duration like OpenAI: ``12ms``, ``1s``, ``8.64s``, ``6m0s``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"
