"""OpenAI's query parameters of the audit log and usage. Names of lists end in ``[]``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from api.http.pagination import Digits
from api.schemas.base import ResponseModel
from api.schemas.organization.admin import GroupBy, UsageKind

DAY_SECONDS = 86_400


def _check_timestamp(value: Any) -> Any:
    # int() would also accept "1_0", " 1" and digits of other scripts.
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError("it must be a time in whole seconds since 1970")
    return value


Timestamp = Annotated[int, Field(ge=0, lt=10**10), BeforeValidator(_check_timestamp)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Ids = Annotated[list[Id], Field(max_length=100)]


class AuditQuery(ResponseModel):
    gt: Timestamp | None = Field(None, alias="effective_at[gt]", description="Changes after this second.")
    gte: Timestamp | None = Field(None, alias="effective_at[gte]", description="Changes in this second or later.")
    lt: Timestamp | None = Field(None, alias="effective_at[lt]", description="Changes before this second.")
    lte: Timestamp | None = Field(None, alias="effective_at[lte]", description="Changes in this second or earlier.")
    project_ids: Ids = Field([], alias="project_ids[]", description="Only changes by keys of these projects.")
    event_types: Ids = Field([], alias="event_types[]", description="Only these types, such as `file.deleted`.")
    actor_ids: Ids = Field([], alias="actor_ids[]", description="Only changes by these keys.")
    resource_ids: Ids = Field([], alias="resource_ids[]", description="Only changes to objects with these ids.")
    limit: Annotated[int, Field(ge=0, le=1000), Digits, Field(description="Maximum number of objects per page.")] = 20
    after: Annotated[str | None, Field(max_length=256, description="Id of the last object of the previous page.")] = (
        None
    )


class UsageQuery(ResponseModel):
    start_time: Annotated[
        Timestamp, Field(description="Start of the range, in seconds since 1970. The first day is included in full.")
    ]
    end_time: Annotated[
        Timestamp | None,
        Field(
            ge=1,
            description="Exclusive end of the range, in seconds since 1970; by default now. "
            "The last day is included in full.",
        ),
    ] = None
    group_by: Annotated[list[GroupBy], Field(max_length=4)] = Field([], alias="group_by[]")
    project_ids: Ids = Field([], alias="project_ids[]", description="Only usage of these projects.")
    api_key_ids: Ids = Field([], alias="api_key_ids[]", description="Only usage of these keys.")
    models: Ids = Field([], alias="models[]", description="Only usage of these models.")
    kinds: Annotated[list[UsageKind], Field(max_length=5)] = Field([], alias="kinds[]")
    limit: Annotated[int, Field(ge=1, le=31), Digits, Field(description="Maximum number of days per page.")] = 7
    page: Annotated[
        str | None, Field(pattern=r"^\d{4}-\d\d-\d\d$", description="`next_page` of the previous page.")
    ] = None
