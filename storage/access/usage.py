"""What keys used: counters that only grow, added to by one statement each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Usage
from storage.upsert import inserting


@dataclass(frozen=True)
class Counted:
    """Whose use of what, on which day (UTC)."""

    project_id: str
    key_id: str
    day: str
    kind: str
    """``chat``, ``completion``, ``embedding``, ``prediction``, ``training``."""
    model: str


@dataclass
class Amount:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: Amount) -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


def day_of(second: float) -> str:
    """``2026-11-21``."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")


async def count(session: AsyncSession, used: Iterable[tuple[Counted, Amount]]) -> None:
    """Add to the counters, in the caller's transaction."""
    # In one order, so that two processes that count the same rows wait for each other instead of dying of a deadlock.
    for of, amount in sorted(used, key=lambda pair: tuple(vars(pair[0]).values())):
        row = inserting(session, Usage).values(**vars(of), **vars(amount))
        added = {name: getattr(Usage, name) + row.excluded[name] for name in vars(amount)}
        await session.execute(row.on_conflict_do_update(index_elements=list(vars(of)), set_=added))
