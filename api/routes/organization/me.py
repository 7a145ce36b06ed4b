"""Route that describes the key of the request."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import error_responses
from api.http.strict_json import StrictRoute
from api.schemas.organization.admin import CurrentKeyOut, NamedOut, UsageToday, to_key_out, to_limits_out
from jobs.lifecycle.states import RUNNING
from storage.access.limits import sum_stored_bytes
from storage.access.usage import to_utc_day
from storage.tables import ApiKey, Job, Organization, Project, Usage

router = APIRouter(tags=["organization"], route_class=StrictRoute, responses=error_responses())


@router.get("/me")
async def retrieve_me(resources: ResourcesDep, principal: PrincipalDep) -> CurrentKeyOut:
    """Retrieve the key of the request with its role, project, limits and today's usage (UTC)."""
    counted = [Usage.requests, Usage.input_tokens, Usage.output_tokens]
    today = [col(Usage.key_id) == principal.key_id, col(Usage.day) == to_utc_day(time.time())]
    running = [col(Job.project_id) == principal.project_id, col(Job.state) == RUNNING]
    async with resources.db.read() as session:
        key = await session.get_one(ApiKey, principal.key_id)
        project = await session.get_one(Project, principal.project_id)
        organization = await session.get_one(Organization, principal.organization_id)
        sums = select(*(func.coalesce(func.sum(col(column)), 0) for column in counted)).where(*today)
        used = (await session.execute(sums)).one()
        jobs = (await session.execute(select(func.count()).select_from(Job).where(*running))).scalar_one()
        stored = await sum_stored_bytes(session, principal.project_id)
    return CurrentKeyOut(
        key=to_key_out(key),
        project=NamedOut(id=project.id, name=project.name),
        organization=NamedOut(id=organization.id, name=organization.name),
        role=principal.role,
        limits=to_limits_out(principal.limits),
        usage_today=UsageToday(requests=used[0], input_tokens=used[1], output_tokens=used[2]),
        stored_bytes=stored,
        running_jobs=jobs,
    )
