"""A job's recorded steps as tagged scalars for dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from jobs.metrics.tfevents import Scalars
from jobs.resources import Resources
from storage.tables import Event

TAGS: Mapping[str, str] = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens": "train/tokens",
    "tokens_per_second": "train/tokens_per_second",
    "general_loss": "general/loss",
}
"""Field of a metrics event -> tag. Every metric of the validation rows gets a ``valid/…`` tag."""


def tag_values(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a metrics event, keyed by tag."""
    tagged = {tag: data[field] for field, tag in TAGS.items() if data.get(field) is not None}
    # OpenAI's names repeat ours, so they are left out.
    valid = {
        name: value
        for name, value in data.items()
        if name.startswith("valid_") and not name.endswith("_mean_token_accuracy")
    }
    return tagged | {
        f"valid/{name.removeprefix('valid_')}": value for name, value in valid.items() if value is not None
    }


async def load_scalars(resources: Resources, job_id: str, after_seq: int = 0) -> list[tuple[int, Scalars]]:
    """Return the job's steps recorded after event ``after_seq``, in order.

    Each step comes with the sequence number of its event.
    """
    conditions = [col(Event.job_id) == job_id, col(Event.type) == "metrics", col(Event.seq) > after_seq]
    query = select(col(Event.seq), col(Event.created_at), col(Event.data)).where(*conditions).order_by(col(Event.seq))
    async with resources.db.read() as session:
        rows = (await session.execute(query)).all()
    return [(seq, Scalars(created_at, data["step"], tag_values(data))) for seq, created_at, data in rows]
