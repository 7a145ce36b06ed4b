"""Cursor pagination.

A cursor names the last row of the previous page. The order is total, so rows with equal timestamps
are neither lost nor repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped
from sqlmodel import SQLModel, col

from api.errors import InvalidRequest
from storage.tables import Checkpoint, CheckpointPermission, Event, File, Job

Row = TypeVar("Row", bound=SQLModel)
Item = TypeVar("Item", bound=BaseModel)
Direction = Literal["asc", "desc"]


def _check_digits(value: Any) -> Any:
    # int() would also accept "1_0", " 1" and digits of other scripts.
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ValueError("it must be a whole number, 0 or more")
    return value


Digits = BeforeValidator(_check_digits)
After = Annotated[str | None, Query(max_length=256, description="Id of the last object of the previous page.")]
Limit = Annotated[int, Field(ge=0, le=1000), Digits, Query(description="Maximum number of objects per page.")]


class ListOut(BaseModel, Generic[Item]):
    """One page of a list.

    While ``has_more`` is true, request the next page with ``after`` = ``last_id``.
    """

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


@dataclass(frozen=True)
class Page(Generic[Row]):
    rows: list[Row]
    has_more: bool


@dataclass(frozen=True)
class Cursor:
    after: str | None
    limit: int
    direction: Direction = "desc"


@dataclass(frozen=True)
class Paginator(Generic[Row]):
    """Order of a table's rows.

    ``keys`` together are unique among the rows that one client can list.
    """

    table: type[Row]
    id: Mapped[str]
    keys: tuple[Mapped[Any], ...]

    async def fetch_page(
        self,
        session: AsyncSession,
        conditions: Sequence[ColumnElement[bool]],
        cursor: Cursor,
        filters: Sequence[ColumnElement[bool]] = (),
    ) -> Page[Row]:
        """Return the page after the cursor. Raises ``InvalidRequest`` for an unknown cursor.

        ``conditions`` apply to the rows and the cursor. ``filters`` apply only to the rows, because
        the cursor's row may have changed since the previous page.
        """
        keys = tuple_(*self.keys)
        descending = cursor.direction == "desc"
        query = select(self.table).where(*conditions, *filters).limit(cursor.limit + 1)
        query = query.order_by(*(key.desc() if descending else key.asc() for key in self.keys))
        if cursor.after is not None:
            last_keys = (await session.execute(select(*self.keys).where(*conditions, self.id == cursor.after))).first()
            if last_keys is None:
                raise InvalidRequest(
                    "'after' is not the id of an object in this list; send the last_id of the previous page.",
                    param="after",
                )
            query = query.where(keys < tuple(last_keys) if descending else keys > tuple(last_keys))
        rows = list((await session.execute(query)).scalars())
        return Page(rows[: cursor.limit], len(rows) > cursor.limit)


FILES = Paginator(File, col(File.id), (col(File.created_at), col(File.id)))
JOBS = Paginator(Job, col(Job.id), (col(Job.created_at), col(Job.id)))
EVENTS = Paginator(Event, col(Event.id), (col(Event.seq),))
CHECKPOINTS = Paginator(Checkpoint, col(Checkpoint.id), (col(Checkpoint.step),))
PERMISSIONS = Paginator(
    CheckpointPermission,
    col(CheckpointPermission.id),
    (col(CheckpointPermission.created_at), col(CheckpointPermission.id)),
)


def to_list(items: Sequence[Item], has_more: bool) -> ListOut[Item]:
    """Build the response for one page. Every item needs an ``id``."""
    ids: list[str] = [getattr(item, "id") for item in items]  # noqa: B009
    return ListOut[Any](
        data=list(items), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
    )
