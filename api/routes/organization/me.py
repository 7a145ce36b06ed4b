"""What a key is: for whoever holds it."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlmodel import col

from api.deps import PrincipalDep, RoomsDep
from api.errors import documented
from api.http.strict_json import StrictRoute
from api.schemas.organization.admin import MeOut, NamedOut, UsageToday, key_out, limits_out
from jobs.lifecycle.states import RUNNING
from storage.access.limits import stored_bytes
from storage.access.usage import day_of
from storage.tables import ApiKey, Job, Organization, Project, Usage

router = APIRouter(tags=["organization"], route_class=StrictRoute, responses=documented())


@router.get("/me")
async def retrieve_me(rooms: RoomsDep, principal: PrincipalDep) -> MeOut:
    """The key that asks: its role, project, limits and what it used today (UTC)."""
    counted = [Usage.requests, Usage.input_tokens, Usage.output_tokens]
    today = [col(Usage.key_id) == principal.key_id, col(Usage.day) == day_of(time.time())]
    running = [col(Job.project_id) == principal.project_id, col(Job.state) == RUNNING]
    async with rooms.db.read() as session:
        key = await session.get_one(ApiKey, principal.key_id)
        project = await session.get_one(Project, principal.project_id)
        organization = await session.get_one(Organization, principal.organization_id)
        sums = select(*(func.coalesce(func.sum(col(column)), 0) for column in counted)).where(*today)
        used = (await session.execute(sums)).one()
        jobs = (await session.execute(select(func.count()).select_from(Job).where(*running))).scalar_one()
        stored = await stored_bytes(session, principal.project_id)
    return MeOut(
        key=key_out(key),
        project=NamedOut(id=project.id, name=project.name),
        organization=NamedOut(id=organization.id, name=organization.name),
        role=principal.role,
        limits=limits_out(principal.limits),
        usage_today=UsageToday(requests=used[0], input_tokens=used[1], output_tokens=used[2]),
        stored_bytes=stored,
        running_jobs=jobs,
    )
