"""Organizations, projects, keys, the audit log and usage on the wire: OpenAI's shapes, and our limits and roles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.base import StrictModel, Unsupported
from storage.access.limits import Limits
from storage.access.roles import Role
from storage.tables import ApiKey, AuditEntry, Project

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
PerMinute = Annotated[int, Field(ge=1, le=10**9)]
YEAR_SECONDS = 366 * 86_400


class LimitsIn(StrictModel):
    """Null, or absent: the server's."""

    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    max_running_jobs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_queued_requests: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Of the project's batches together, those not answered yet."""
    max_bytes: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    """Of files, open uploads and the answers of running batches together."""


class ProjectIn(StrictModel):
    """A new project."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "support", "limits": {"max_running_jobs": 2}}]})

    name: Name
    limits: LimitsIn | None = None
    external_key_id: Unsupported = None
    geography: Unsupported = None
    residency: Unsupported = None


class ProjectUpdateIn(StrictModel):
    """What is absent stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limits": {"requests_per_minute": 600}}]})

    name: Name | None = None
    limits: LimitsIn | None = None
    """Those that are named change."""
    external_key_id: Unsupported = None
    geography: Unsupported = None


class LimitsOut(BaseModel):
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_queued_requests: int | None
    max_bytes: int | None


class ProjectOut(BaseModel):
    """A project: owner of files, jobs, models and keys."""

    id: str
    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]
    limits: LimitsOut
    """The project's own; null: the server's."""


class KeyIn(StrictModel):
    """A new key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "website", "role": "inference"}]})

    name: Name
    role: Role = "member"
    """``admin``: everything, and administers the organization. ``member``: reads, changes, asks models. ``inference``:
    asks models. ``read``: reads."""
    expires_in_seconds: Annotated[int, Field(ge=60, le=10 * YEAR_SECONDS)] | None = None
    """Null: it does not expire."""


class ServiceAccountOut(BaseModel):
    id: str
    created_at: int
    name: str
    role: str


class OwnerOut(BaseModel):
    """OpenAI's keys belong to somebody; these stand for themselves."""

    type: Literal["service_account"] = "service_account"
    service_account: ServiceAccountOut


class KeyOut(BaseModel):
    """A key of a project, but for the key itself."""

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
    """A new key. ``value`` is shown here and never again."""

    value: str


class KeyDeleted(BaseModel):
    id: str
    object: Literal["organization.project.api_key.deleted"] = "organization.project.api_key.deleted"
    deleted: Literal[True] = True


class NamedOut(BaseModel):
    """A project or an organization."""

    id: str
    name: str


class AuditActorOut(BaseModel):
    """Which key did it; its ``id`` is ``luthierd`` for a change made with that command."""

    type: Literal["api_key"] = "api_key"
    api_key: dict[str, str]


class AuditOut(BaseModel):
    """One change."""

    id: str
    object: Literal["organization.audit_log"] = "organization.audit_log"
    type: str
    """``{object}.{verb}``, as ``file.deleted``."""
    effective_at: int
    project: NamedOut
    """Of the key that did it."""
    actor: AuditActorOut
    target: str
    """Id of what changed."""
    request_id: str
    detail: dict[str, Any] | None


GroupBy = Literal["project_id", "api_key_id", "model", "kind"]
UsageKind = Literal["chat", "completion", "embedding", "prediction", "training"]


class UsageOut(BaseModel):
    """What was used; a field that ``group_by`` does not name is null."""

    object: Literal["organization.usage.result"] = "organization.usage.result"
    input_tokens: int
    """Read by models; of ``training``, the trained tokens."""
    output_tokens: int
    num_model_requests: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    kind: str | None = None


class BucketOut(BaseModel):
    """One day, by UTC."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[UsageOut]


class UsagePage(BaseModel):
    """Ask for the next with ``page`` = ``next_page`` while ``has_more``."""

    object: Literal["page"] = "page"
    data: list[BucketOut]
    has_more: bool
    next_page: str | None


class UsageToday(BaseModel):
    requests: int
    input_tokens: int
    output_tokens: int


class CurrentKeyOut(BaseModel):
    """What a key is and what its project may do."""

    object: Literal["organization.me"] = "organization.me"
    key: KeyOut
    project: NamedOut
    organization: NamedOut
    role: str
    limits: LimitsOut
    """In force: the project's, and the server's where it has none. Null: no limit."""
    usage_today: UsageToday
    """Of the key."""
    stored_bytes: int
    """Of the project's files and open uploads."""
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
