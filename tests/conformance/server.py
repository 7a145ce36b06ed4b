"""Server of the conformance checks, with their objects. Run it with ``python -m
tests.conformance.server``, which prints its context as JSON.

It is a real API over SQLite with a fake engine that fails on request
(``tests/api/fake_engine.py``).
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

from api.http.streaming import ChunkReader
from api.routes import inference
from jobs.webhooks import outbox, signing
from storage.tables import Job, Model, Webhook
from tests.api.stack import Stack, build_job, create_tenant, run_stack
from tests.conformance.client.context import CheckContext
from tests.conformance.proxy import run_proxy

PAGINATION_JOBS = 1000
SPARE_MODELS = 8
PING_SECONDS = 0.1


@contextmanager
def run_check_server(home: Path) -> Iterator[tuple[Stack, CheckContext]]:
    # Tests need frequent keep-alives. All other settings are the defaults.
    short_pings = patch.object(inference, "ChunkReader", partial(ChunkReader, ping_seconds=PING_SECONDS))
    with short_pings, run_stack(home, max_upload_bytes=100 * 2**20) as stack, run_proxy(stack.url) as proxy:
        context = create_context(stack, f"http://127.0.0.1:{proxy.server_port}/v1")
        yield stack, context
        context.close()


def create_context(stack: Stack, proxy_url: str) -> CheckContext:
    pagination_tenant = stack.run_in_session(create_tenant)
    stack.run_in_session(partial(_insert_pagination_jobs, project_id=pagination_tenant.project_id))
    model = stack.insert_model(suffix="conformance")
    job = get_job(stack, model)
    for seq in range(1, 6):
        stack.insert_event(job, seq)
    for step in (10, 20):
        stack.insert_checkpoint(job, step)
    slashed_models = [stack.insert_model(base_model="org/base", suffix=suffix).id for suffix in ("deleted", "kept")]
    return CheckContext(
        url=f"{stack.url}/v1",
        proxy_url=proxy_url,
        key=stack.tenant.key,
        pagination_key=pagination_tenant.key,
        pagination_job_count=PAGINATION_JOBS,
        job=job.id,
        model=model.id,
        deletable_slashed_model=slashed_models[0],
        slashed_model=slashed_models[1],
        spare_models=[stack.insert_model(suffix=f"spare-{n}").id for n in range(SPARE_MODELS)],
        webhook=_build_delivery(job),
    )


def get_job(stack: Stack, model: Model) -> Job:
    async def get(session: AsyncSession) -> Job:
        return await session.get_one(Job, model.job_id)

    return stack.run_in_session(get)


def _build_delivery(job: Job) -> dict[str, Any]:
    """Build a delivery with the code that builds and signs the real ones."""
    secret = signing.generate_secret()
    webhook = Webhook(id="wh_none", project_id=job.project_id, created_at=0, name="", url="", secret=secret, events=[])
    delivery = outbox.build_delivery(webhook, "fine_tuning.job.succeeded", job.id)
    headers = signing.build_signature_headers([secret], delivery.id, int(time.time()), delivery.body)
    return {"body": delivery.body, "headers": headers, "secret": secret}


async def _insert_pagination_jobs(session: AsyncSession, project_id: str) -> None:
    now = time.time()
    session.add_all(
        build_job(project_id, created_at=now, state="succeeded", finished_at=now) for _ in range(PAGINATION_JOBS)
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_check_server(Path(home)) as (_, context):
        print(context.to_json(), flush=True)
        # Run until the parent process closes stdin.
        sys.stdin.read()


if __name__ == "__main__":
    main()
