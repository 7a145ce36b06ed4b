"""Routes for the audit log and the usage of an organization."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, func, select
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, error_responses
from api.http.pagination import Cursor, ListOut, Paginator, to_list
from api.http.strict_json import StrictRoute
from api.schemas.organization.admin import AuditOut, BucketOut, UsageOut, UsagePage, to_audit_out
from api.schemas.organization.query_params import DAY_SECONDS, AuditQuery, UsageQuery
from storage.tables import AuditEntry, Project, Usage

router = APIRouter(prefix="/organization", tags=["organization"], route_class=StrictRoute, responses=error_responses())

AUDIT_LOG = Paginator(AuditEntry, col(AuditEntry.id), (col(AuditEntry.created_at), col(AuditEntry.id)))


@router.get("/audit_logs")
async def list_audit_logs(
    query: Annotated[AuditQuery, Query()], resources: ResourcesDep, principal: PrincipalDep
) -> ListOut[AuditOut]:
    """List all changes by keys of the organization, newest first."""
    conditions = [col(AuditEntry.organization_id) == principal.organization_id]
    async with resources.db.read() as session:
        page = await AUDIT_LOG.fetch_page(
            session, conditions, Cursor(query.after, query.limit), _build_audit_filters(query)
        )
        project_ids = {entry.project_id for entry in page.rows}
        query_names = select(col(Project.id), col(Project.name)).where(col(Project.id).in_(project_ids))
        names = {row.id: row.name for row in (await session.execute(query_names)).all()}
    return to_list([to_audit_out(entry, names[entry.project_id]) for entry in page.rows], page.has_more)


def _build_audit_filters(query: AuditQuery) -> list[ColumnElement[bool]]:
    at = col(AuditEntry.created_at)
    # Clients see whole seconds: a change in second 5 is neither after it nor before it.
    bounds = {
        "gt": None if query.gt is None else at >= query.gt + 1,
        "gte": None if query.gte is None else at >= query.gte,
        "lt": None if query.lt is None else at < query.lt,
        "lte": None if query.lte is None else at < query.lte + 1,
    }
    membership = _build_in_filters(
        (AuditEntry.project_id, query.project_ids),
        (AuditEntry.action, query.event_types),
        (AuditEntry.key_id, query.actor_ids),
        (AuditEntry.target, query.resource_ids),
    )
    return [bound for bound in bounds.values() if bound is not None] + membership


@router.get("/usage")
async def retrieve_usage(
    query: Annotated[UsageQuery, Query()], resources: ResourcesDep, principal: PrincipalDep
) -> UsagePage:
    """Retrieve the tokens and requests of the organization's keys per day (UTC).

    They are summed over all dimensions that ``group_by`` does not name.
    """
    days = _list_days(query)
    page_days = dict(list(days.items())[: query.limit])
    groups = {"project_id": Usage.project_id, "api_key_id": Usage.key_id, "model": Usage.model, "kind": Usage.kind}
    group_columns = {name: col(groups[name]) for name in dict.fromkeys(query.group_by)}
    sums = [Usage.input_tokens, Usage.output_tokens, Usage.requests]
    statement = (
        select(col(Usage.day), *group_columns.values(), *(func.sum(col(column)) for column in sums))
        .join(Project, col(Project.id) == col(Usage.project_id))
        .where(col(Project.organization_id) == principal.organization_id, col(Usage.day).in_(page_days))
        .where(*_build_usage_filters(query))
        .group_by(col(Usage.day), *group_columns.values())
        .order_by(col(Usage.day), *group_columns.values())
    )
    results: defaultdict[str, list[UsageOut]] = defaultdict(list)
    async with resources.db.read() as session:
        for day, *rest in (await session.execute(statement)).all():
            read, written, requests = rest[len(group_columns) :]
            results[day].append(
                UsageOut(
                    input_tokens=read,
                    output_tokens=written,
                    num_model_requests=requests,
                    **dict(zip(group_columns, rest, strict=False)),
                )
            )
    data = [BucketOut(start_time=at, end_time=at + DAY_SECONDS, results=results[day]) for day, at in page_days.items()]
    remaining_days = list(days)[query.limit :]
    return UsagePage(data=data, has_more=bool(remaining_days), next_page=remaining_days[0] if remaining_days else None)


def _list_days(query: UsageQuery) -> dict[str, int]:
    """Return the requested days as ``2026-11-21`` -> its first second.

    Raises ``InvalidRequest``.
    """
    end = int(time.time()) if query.end_time is None else query.end_time - 1
    first, last = query.start_time // DAY_SECONDS, end // DAY_SECONDS
    if last - first > 3660:
        raise InvalidRequest("Request at most ten years; send a later start_time.", param="start_time")
    days = {_format_day(number * DAY_SECONDS): number * DAY_SECONDS for number in range(first, last + 1)}
    return {day: at for day, at in days.items() if query.page is None or day >= query.page}


def _format_day(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")


def _build_usage_filters(query: UsageQuery) -> list[ColumnElement[bool]]:
    return _build_in_filters(
        (Usage.project_id, query.project_ids),
        (Usage.key_id, query.api_key_ids),
        (Usage.model, query.models),
        (Usage.kind, query.kinds),
    )


def _build_in_filters(*column_values: tuple[str, Sequence[str]]) -> list[ColumnElement[bool]]:
    """Build a filter for each list of values. An empty list filters nothing."""
    return [col(column).in_(values) for column, values in column_values if values]
