"""Usage counters per key. A counter only grows, and each increment is one statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Usage
from storage.upsert import upsert_into


@dataclass(frozen=True)
class UsageDimensions:
    """Primary key of a usage counter. Days are in UTC."""

    project_id: str
    key_id: str
    day: str
    kind: str
    """``chat``, ``completion``, ``embedding``, ``prediction``, ``training``."""
    model: str


@dataclass
class UsageAmount:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: UsageAmount) -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


def to_utc_day(second: float) -> str:
    """Format a timestamp (seconds since 1970) as a day in UTC, such as ``2026-11-21``."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")


async def add_usage(session: AsyncSession, amounts: Iterable[tuple[UsageDimensions, UsageAmount]]) -> None:
    """Add to the counters, in the caller's transaction."""
    # A fixed order: processes that update the same rows wait for each other without a deadlock.
    for dimensions, amount in sorted(amounts, key=lambda pair: tuple(vars(pair[0]).values())):
        insert = upsert_into(session, Usage).values(**vars(dimensions), **vars(amount))
        increments = {name: getattr(Usage, name) + insert.excluded[name] for name in vars(amount)}
        await session.execute(insert.on_conflict_do_update(index_elements=list(vars(dimensions)), set_=increments))
