"""The server that the checks ask, with what they look for: ``python -m tests.conformance.server`` tells where it is.

A real API over SQLite with a tiny engine that misbehaves when a message tells it to (``tests/api/fake_engine.py``).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncSession

from api.http.streaming import Chunks
from api.routes import inference
from jobs.webhooks import outbox, signing
from storage.tables import Job, Model, Webhook
from tests.api.stack import Stack, new_job, new_tenant, running_stack
from tests.conformance.client.context import World
from tests.conformance.proxy import proxying

WALK_JOBS = 1000
SPARES = 8
PING_SECONDS = 0.1


@contextmanager
def running_world(home: Path) -> Iterator[tuple[Stack, World]]:
    # Keep-alives at the pace of a test; everything else as shipped.
    quick = patch.object(inference, "Chunks", partial(Chunks, ping_seconds=PING_SECONDS))
    with quick, running_stack(home, max_upload_bytes=100 * 2**20) as stack, proxying(stack.url) as proxy:
        world = seeded(stack, f"http://127.0.0.1:{proxy.server_port}/v1")
        yield stack, world
        world.close()


def seeded(stack: Stack, proxy: str) -> World:
    walking = stack.session(new_tenant)
    stack.session(partial(_same_instant, project_id=walking.project_id))
    model = stack.model(suffix="conformance")
    job = job_of(stack, model)
    for seq in range(1, 6):
        stack.event(job, seq)
    for step in (10, 20):
        stack.checkpoint(job, step)
    slashed = [stack.model(base_model="org/base", suffix=suffix).id for suffix in ("deleted", "kept")]
    return World(
        url=f"{stack.url}/v1",
        proxy=proxy,
        key=stack.ours.key,
        walk_key=walking.key,
        walk_jobs=WALK_JOBS,
        job=job.id,
        model=model.id,
        slashed=slashed[0],
        kept_slashed=slashed[1],
        spares=[stack.model(suffix=f"spare-{n}").id for n in range(SPARES)],
        webhook=_delivery(job),
    )


def job_of(stack: Stack, model: Model) -> Job:
    async def get(session: AsyncSession) -> Job:
        return await session.get_one(Job, model.job_id)

    return stack.session(get)


def _delivery(job: Job) -> dict[str, Any]:
    """An event as a webhook would get it, by what signs and words the real ones."""
    secret = signing.new_secret()
    hook = Webhook(id="wh_none", project_id=job.project_id, created_at=0, name="", url="", secret=secret, events=[])
    sent = outbox.new_delivery(hook, "fine_tuning.job.succeeded", job.id)
    headers = signing.headers([secret], sent.id, int(time.time()), sent.body)
    return {"body": sent.body, "headers": headers, "secret": secret}


async def _same_instant(session: AsyncSession, project_id: str) -> None:
    now = time.time()
    session.add_all(new_job(project_id, created_at=now, state="succeeded", finished_at=now) for _ in range(WALK_JOBS))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, running_world(Path(home)) as (_, world):
        print(world.to_json(), flush=True)
        # Until whoever started this lets go.
        sys.stdin.read()


if __name__ == "__main__":
    main()
