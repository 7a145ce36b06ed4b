"""Webhooks and what is on its way to them."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Webhook(SQLModel, table=True):
    """Where a project wants to be told what happened."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_page", "project_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    created_at: float
    updated_at: float
    """The client's last change."""
    name: str
    url: str
    secret: str
    """``whsec_…``, shown once. Kept as it is: every delivery is signed with it."""
    old_secret: str | None = None
    """The one before it: deliveries are signed with both until ``old_secret_until``."""
    old_secret_until: float | None = None
    events: list[str] = Field(sa_column=json_column())
    """Types that are sent."""
    disabled_at: float | None = None
    """Set by the client, or after too many failures; nothing is sent from then on."""
    note: str | None = None
    """Why the server disabled it."""
    failures: int = 0
    """Deliveries given up since the last one that arrived."""


class Delivery(SQLModel, table=True):
    """One event on its way to one webhook; written in the transaction of what it tells."""

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
    """By the database's clock: not tried before."""
    owner: str | None = None
    lease_until: float | None = None
    """By the database's clock."""
    status_code: int | None = None
    """Of the last answer; null where there was none."""
    note: str | None = None
    """Why there was no answer."""
