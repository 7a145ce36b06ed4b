"""Tables of webhooks and their deliveries."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Webhook(SQLModel, table=True):
    """A URL to which a project's events are sent."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_page", "project_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    created_at: float
    updated_at: float
    """Time of the client's last change."""
    name: str
    url: str
    secret: str
    """``whsec_…``, shown once. It is stored in plain text, since every delivery is signed with
    it."""
    old_secret: str | None = None
    """Previous secret. Until ``old_secret_until`` deliveries are signed with both."""
    old_secret_until: float | None = None
    events: list[str] = Field(sa_column=json_column())
    """Types of the events that are sent."""
    disabled_at: float | None = None
    """Set by the client, or after too many failures. A disabled webhook receives nothing."""
    note: str | None = None
    """Reason why the server disabled it."""
    failures: int = 0
    """Deliveries given up since the last successful one."""


class Delivery(SQLModel, table=True):
    """Delivery of one event to one webhook, inserted in the transaction of the event."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "state", "next_try_at"),
        Index("ix_deliveries_page", "webhook_id", "created_at", "id"),
    )

    id: str = Field(primary_key=True)
    """Also the ``webhook-id`` header: the same in every try."""
    webhook_id: str = Field(foreign_key="webhooks.id")
    project_id: str = Field(foreign_key="projects.id")
    created_at: float
    type: str
    body: str
    """The bytes that are signed and sent."""
    state: str = "pending"
    """``pending``, ``delivered``, ``given_up``."""
    tries: int = 0
    next_try_at: float = 0.0
    """Earliest time of the next try, by the database's clock."""
    owner: str | None = None
    lease_until: float | None = None
    """By the database's clock."""
    status_code: int | None = None
    """Status of the last response; null if there was none."""
    note: str | None = None
    """Reason why the last try failed."""
