"""What keys use of models: gathered in memory and written every second, so that no request waits for it."""

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
    """One for each process. A process that is killed loses what it gathered since the last second."""

    def __init__(self, db: Database, scripts: RedisScripts) -> None:
        self._db = db
        self._scripts = scripts
        self._pending: dict[UsageDimensions, UsageAmount] = {}
        self._write_lock = asyncio.Lock()

    async def record(self, principal: Principal, kind: str, model: str, usage: Mapping[str, Any]) -> None:
        """``usage``: of the engine's answer."""
        amount = UsageAmount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        of = UsageDimensions(principal.project_id, principal.key_id, to_utc_day(time.time()), kind, model)
        self._pending.setdefault(of, UsageAmount()).add(amount)
        await charge(self._scripts, principal, amount.input_tokens + amount.output_tokens)

    async def record_response(self, principal: Principal, kind: str, response: dict[str, Any]) -> dict[str, Any]:
        """The same answer, counted."""
        await self.record(principal, kind, response["model"], response["usage"])
        return response

    async def record_stream(
        self, principal: Principal, kind: str, chunks: AsyncGenerator[dict[str, Any], None], include_usage: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """The same chunks, counted; the usage that the engine tells is passed on where it was asked for (``told``).

        Where the client leaves first nobody says how much it was: then each chunk counts as one token.
        """
        usage: dict[str, Any] = {}
        model, texts = "", 0
        try:
            async for chunk in chunks:
                model = chunk["model"]
                texts += bool(chunk["choices"])
                usage = chunk.get("usage") or usage
                if include_usage:
                    yield chunk
                elif chunk["choices"]:
                    yield {name: value for name, value in chunk.items() if name != "usage"}
        finally:
            await chunks.aclose()
            if model:
                await self.record(principal, kind, model, usage or {"completion_tokens": texts})

    async def flush(self) -> None:
        """Raises ``StorageUnavailable``, and keeps what could not be written."""
        async with self._write_lock:
            gathered, self._pending = self._pending, {}
            if not gathered:
                return
            try:
                async with self._db.write() as session:
                    await add_usage(session, gathered.items())
            except StorageUnavailable:
                for of, amount in gathered.items():
                    self._pending.setdefault(of, UsageAmount()).add(amount)
                raise

    async def run_flusher(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                # Cancelled in the middle it would lose what it writes; the last flush waits for it.
                await asyncio.shield(self.flush())
            except StorageUnavailable as error:
                log.warning("usage waits to be written: %s", error)
