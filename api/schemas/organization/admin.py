"""Bodies of the organization routes: OpenAI's fields, and Luthier's limits and roles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from api.schemas.base import ResponseModel, StrictModel, Unsupported
from storage.access.limits import Limits
from storage.access.roles import Role
from storage.tables import ApiKey, AuditEntry, Project

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
PerMinute = Annotated[int, Field(ge=1, le=10**9)]
YEAR_SECONDS = 366 * 86_400


class LimitsIn(StrictModel):
    """Limits of a project. Null or absent means the server's limit."""

    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    max_running_jobs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_queued_requests: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Unprocessed requests in all batches of the project."""
    max_bytes: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    """Total size of files, open uploads and the responses of running batches."""


class ProjectIn(StrictModel):
    """A new project."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "support", "limits": {"max_running_jobs": 2}}]})

    name: Name
    limits: LimitsIn | None = None
    external_key_id: Unsupported = None
    geography: Unsupported = None
    residency: Unsupported = None


class ProjectUpdateIn(StrictModel):
    """Changes to a project. Absent fields keep their values."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limits": {"requests_per_minute": 600}}]})

    name: Name | None = None
    limits: LimitsIn | None = None
    """Only the limits that are sent change."""
    external_key_id: Unsupported = None
    geography: Unsupported = None


class LimitsOut(ResponseModel):
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_queued_requests: int | None
    max_bytes: int | None


class ProjectOut(ResponseModel):
    """A project, which owns files, jobs, models and keys."""

    id: str
    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]
    limits: LimitsOut
    """The project's own limits; null means the server's limit."""


class KeyIn(StrictModel):
    """A new key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "website", "role": "inference"}]})

    name: Name
    role: Role = "member"
    """``admin`` can do everything and administers the organization. ``member`` can read, change and
    use models. ``inference`` can use models. ``read`` can read."""
    expires_in_seconds: Annotated[int, Field(ge=60, le=10 * YEAR_SECONDS)] | None = None
    """Null means that the key does not expire."""


class ServiceAccountOut(ResponseModel):
    id: str
    created_at: int
    name: str
    role: str


class OwnerOut(ResponseModel):
    """Owner of a key. OpenAI's keys have an owner; here, each key is its own service account."""

    type: Literal["service_account"] = "service_account"
    service_account: ServiceAccountOut


class KeyOut(ResponseModel):
    """A key of a project, without its secret value."""

    id: str
    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    role: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    owner: OwnerOut
    owner_project_access: Literal["active", "inactive"] = "active"


class KeyCreated(KeyOut):
    """A new key. ``value`` is shown only in this response."""

    value: str


class KeyDeleted(ResponseModel):
    id: str
    object: Literal["organization.project.api_key.deleted"] = "organization.project.api_key.deleted"
    deleted: Literal[True] = True


class NamedOut(ResponseModel):
    """A project or an organization."""

    id: str
    name: str


class AuditActorOut(ResponseModel):
    """The key that made the change. Its ``id`` is ``luthierd`` for changes with that command."""

    type: Literal["api_key"] = "api_key"
    api_key: dict[str, str]


class AuditOut(ResponseModel):
    """One change in the audit log."""

    id: str
    object: Literal["organization.audit_log"] = "organization.audit_log"
    type: str
    """``{object}.{verb}``, such as ``file.deleted``."""
    effective_at: int
    project: NamedOut
    """Project of the key that made the change."""
    actor: AuditActorOut
    target: str
    """Id of the changed object."""
    request_id: str
    detail: dict[str, Any] | None


GroupBy = Literal["project_id", "api_key_id", "model", "kind"]
UsageKind = Literal["chat", "completion", "embedding", "prediction", "training"]


class UsageOut(ResponseModel):
    """Usage of one group. Fields that ``group_by`` does not name are null."""

    object: Literal["organization.usage.result"] = "organization.usage.result"
    input_tokens: int
    """Tokens that models read; for ``training``, the trained tokens."""
    output_tokens: int
    num_model_requests: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    kind: str | None = None


class BucketOut(ResponseModel):
    """Usage of one day (UTC)."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[UsageOut]


class UsagePage(ResponseModel):
    """One page of usage.

    While ``has_more`` is true, request the next page with ``page`` = ``next_page``.
    """

    object: Literal["page"] = "page"
    data: list[BucketOut]
    has_more: bool
    next_page: str | None


class UsageToday(ResponseModel):
    """Usage of a key today (UTC)."""

    requests: int
    input_tokens: int
    output_tokens: int


class CurrentKeyOut(ResponseModel):
    """The key of the request, with the limits and usage of its project."""

    object: Literal["organization.me"] = "organization.me"
    key: KeyOut
    project: NamedOut
    organization: NamedOut
    role: str
    limits: LimitsOut
    """Limits in force: the project's, or else the server's. Null means no limit."""
    usage_today: UsageToday
    """Usage of the key."""
    stored_bytes: int
    """Total size of the project's files and open uploads."""
    running_jobs: int


def to_limits_out(limits: Limits) -> LimitsOut:
    return LimitsOut(**vars(limits))


def to_project_out(project: Project) -> ProjectOut:
    return ProjectOut(
        id=project.id,
        name=project.name,
        created_at=int(project.created_at),
        archived_at=None if project.archived_at is None else int(project.archived_at),
        status="active" if project.archived_at is None else "archived",
        limits=to_limits_out(Limits.from_attributes(project)),
    )


def to_key_out(key: ApiKey) -> KeyOut:
    return KeyOut.model_validate(_to_key_fields(key))


def to_key_created(key: ApiKey, value: str) -> KeyCreated:
    return KeyCreated.model_validate({**_to_key_fields(key), "value": value})


def _to_key_fields(key: ApiKey) -> dict[str, Any]:
    account = {"id": key.id, "created_at": int(key.created_at), "name": key.name, "role": key.role}
    return {
        **account,
        "redacted_value": f"{key.prefix}…",
        "expires_at": None if key.expires_at is None else int(key.expires_at),
        "owner": {"service_account": account},
    }


def to_audit_out(entry: AuditEntry, project_name: str) -> AuditOut:
    return AuditOut(
        id=entry.id,
        type=entry.action,
        effective_at=int(entry.created_at),
        project=NamedOut(id=entry.project_id, name=project_name),
        actor=AuditActorOut(api_key={"id": entry.key_id, "type": "service_account"}),
        target=entry.target,
        request_id=entry.request_id,
        detail=entry.detail,
    )
