"""Database tables. The database is the source of truth.

Times are seconds since 1970. :mod:`storage.ids` creates the ids. Every row that a client can see
has a ``project_id``. The server creates all blob keys; they never contain text of a client.
"""

from __future__ import annotations

from sqlmodel import SQLModel

from storage.tables.access import ApiKey, AuditEntry, IdempotencyRecord, Organization, Project, Usage
from storage.tables.batches import Batch, BatchPart
from storage.tables.files import File, Upload, UploadPart
from storage.tables.jobs import Checkpoint, Event, Job, Metric
from storage.tables.models import CheckpointPermission, Export, Model
from storage.tables.webhooks import Delivery, Webhook

__all__ = [
    "METADATA",
    "ApiKey",
    "AuditEntry",
    "Batch",
    "BatchPart",
    "Checkpoint",
    "CheckpointPermission",
    "Delivery",
    "Event",
    "Export",
    "File",
    "IdempotencyRecord",
    "Job",
    "Metric",
    "Model",
    "Organization",
    "Project",
    "Upload",
    "UploadPart",
    "Usage",
    "Webhook",
]

METADATA = SQLModel.metadata
