"""What keys use of models: gathered in memory and written every second, so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from api.rate_limits import charge
from storage.access.keys import Principal
from storage.access.usage import Amount, Counted, count, day_of
from storage.db import Database
from storage.errors import StorageUnavailable
from storage.redis_scripts import RedisScripts

log = logging.getLogger("luthier.api")

FLUSH_SECONDS = 1.0


class Meter:
    """One for each process. A process that is killed loses what it gathered since the last second."""

    def __init__(self, db: Database, scripts: RedisScripts) -> None:
        self._db = db
        self._scripts = scripts
        self._gathered: dict[Counted, Amount] = {}
        self._writing = asyncio.Lock()

    async def used(self, principal: Principal, kind: str, model: str, usage: Mapping[str, Any]) -> None:
        """``usage``: of the engine's answer."""
        amount = Amount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        of = Counted(principal.project_id, principal.key_id, day_of(time.time()), kind, model)
        self._gathered.setdefault(of, Amount()).add(amount)
        await charge(self._scripts, principal, amount.input_tokens + amount.output_tokens)

    async def answer(self, principal: Principal, kind: str, answer: dict[str, Any]) -> dict[str, Any]:
        """The same answer, counted."""
        await self.used(principal, kind, answer["model"], answer["usage"])
        return answer

    async def stream(
        self, principal: Principal, kind: str, chunks: AsyncGenerator[dict[str, Any], None], told: bool
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
                if told:
                    yield chunk
                elif chunk["choices"]:
                    yield {name: value for name, value in chunk.items() if name != "usage"}
        finally:
            await chunks.aclose()
            if model:
                await self.used(principal, kind, model, usage or {"completion_tokens": texts})

    async def flush(self) -> None:
        """Raises ``StorageUnavailable``, and keeps what could not be written."""
        async with self._writing:
            gathered, self._gathered = self._gathered, {}
            if not gathered:
                return
            try:
                async with self._db.write() as session:
                    await count(session, gathered.items())
            except StorageUnavailable:
                for of, amount in gathered.items():
                    self._gathered.setdefault(of, Amount()).add(amount)
                raise

    async def flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                # Cancelled in the middle it would lose what it writes; the last flush waits for it.
                await asyncio.shield(self.flush())
            except StorageUnavailable as error:
                log.warning("usage waits to be written: %s", error)
