"""Lua scripts that Redis runs atomically for all API processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger("luthier.redis")

# Token buckets. A bucket holds the limit of one minute and refills steadily. ``{level, at}`` is its
# level at a time, in milliseconds of Redis' clock. KEYS: the buckets for requests and tokens. ARGV
# for each key: limit per minute (0: none), level required to pass, cost of passing. Returns
# {passed, then for each key: level, ms until a request passes, ms until the bucket is full}.
TOKEN_BUCKETS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local passed, levels, reply = 1, {}, {1}
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
  for _, number in ipairs({left, wait, full}) do reply[#reply + 1] = number end
end
reply[1] = passed
return reply
"""

SCRIPT_TIMEOUT_SECONDS = 0.25
"""Maximum time that a request waits for a script."""
RETRY_AFTER_SECONDS = 5.0
"""Scripts are skipped for this long after Redis was unavailable."""


class RedisScripts:
    """Runs scripts on the connection pool that ``connect`` returns."""

    def __init__(self, connect: Callable[[], Awaitable[Redis]]) -> None:
        self._connect = connect
        self._unavailable_until = 0.0

    async def run(self, script: str, keys: Sequence[str], numbers: Sequence[float]) -> list[int] | None:
        """Return the script's reply, or None while Redis is unavailable."""
        if time.monotonic() < self._unavailable_until:
            return None
        try:
            async with asyncio.timeout(SCRIPT_TIMEOUT_SECONDS):
                redis = await self._connect()
                reply: list[int] = await redis.register_script(script)(keys=list(keys), args=list(numbers))
        except (RedisError, OSError, TimeoutError) as error:
            self._unavailable_until = time.monotonic() + RETRY_AFTER_SECONDS
            log.warning(
                "Redis is unavailable (%s); rate limits are off for %d s", type(error).__name__, RETRY_AFTER_SECONDS
            )
            return None
        return reply
