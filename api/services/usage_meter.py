"""Model usage of keys, collected in memory and written every second: no request waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from api.rate_limits import charge
from storage.access.keys import Principal
from storage.access.usage import UsageAmount, UsageDimensions, add_usage, to_utc_day
from storage.db import Database
from storage.errors import StorageUnavailable
from storage.redis_scripts import RedisScripts

log = logging.getLogger("luthier.api")

FLUSH_SECONDS = 1.0


class UsageMeter:
    """Usage meter of one process. A killed process loses the usage of about one second."""

    def __init__(self, db: Database, scripts: RedisScripts) -> None:
        self._db = db
        self._scripts = scripts
        self._pending: dict[UsageDimensions, UsageAmount] = {}
        self._write_lock = asyncio.Lock()

    async def record(self, principal: Principal, kind: str, model: str, usage: Mapping[str, Any]) -> None:
        """Count a request and charge its tokens to the project.

        ``usage``: from the engine's response.
        """
        amount = UsageAmount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        dimensions = UsageDimensions(principal.project_id, principal.key_id, to_utc_day(time.time()), kind, model)
        self._pending.setdefault(dimensions, UsageAmount()).add(amount)
        await charge(self._scripts, principal, amount.input_tokens + amount.output_tokens)

    async def record_response(self, principal: Principal, kind: str, response: dict[str, Any]) -> dict[str, Any]:
        """Count a response and return it unchanged."""
        await self.record(principal, kind, response["model"], response["usage"])
        return response

    async def record_stream(
        self, principal: Principal, kind: str, chunks: AsyncGenerator[dict[str, Any], None], include_usage: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks and count them. Pass the engine's usage on only with ``include_usage``.

        If the client disconnects first, the engine reports no usage; then each chunk counts as one
        token.
        """
        usage: dict[str, Any] = {}
        model, chunk_count = "", 0
        try:
            async for chunk in chunks:
                model = chunk["model"]
                chunk_count += bool(chunk["choices"])
                usage = chunk.get("usage") or usage
                if include_usage:
                    yield chunk
                elif chunk["choices"]:
                    yield {name: value for name, value in chunk.items() if name != "usage"}
        finally:
            await chunks.aclose()
            if model:
                await self.record(principal, kind, model, usage or {"completion_tokens": chunk_count})

    async def flush(self) -> None:
        """Write the collected usage.

        Raises ``StorageUnavailable`` and keeps the usage for the next flush.
        """
        async with self._write_lock:
            collected, self._pending = self._pending, {}
            if not collected:
                return
            try:
                async with self._db.write() as session:
                    await add_usage(session, collected.items())
            except StorageUnavailable:
                for dimensions, amount in collected.items():
                    self._pending.setdefault(dimensions, UsageAmount()).add(amount)
                raise

    async def run_flusher(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                # A write cancelled midway would lose its usage. The last flush waits for it.
                await asyncio.shield(self.flush())
            except StorageUnavailable as error:
                log.warning("usage could not be written; trying again later: %s", error)
