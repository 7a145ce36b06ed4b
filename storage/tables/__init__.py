"""The rows. The database is the truth: what is not here did not happen.

Times are seconds since 1970. Ids are made by :mod:`storage.ids`. Every row that a client can see carries its
``project_id``; blob keys are made by the server and never contain a client's words.
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
