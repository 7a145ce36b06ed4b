"""Request ids, response headers and the mapping of exceptions to responses."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import to_response
from storage.ids import new_id

log = logging.getLogger("luthier.api")

OPENAI_VERSION = "2020-10-01"


class RequestContextMiddleware:
    """Gives every answer its headers, and every exception an answer.

    ``scope["state"]`` has the ``request_id``, and ``headers`` for what is inside to add to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began, started = new_id("request"), time.perf_counter(), False
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "headers": {}}

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - began) * 1000))
                headers["openai-version"] = OPENAI_VERSION
                headers.update(state["headers"])
            await send(message)

        try:
            await self.app(scope, receive, headed)
        except ClientDisconnect:
            log.info("%s: the client left before its request was whole", request_id)
        # The edge of the process: what no room translated becomes a 500 in OpenAI's shape.
        except Exception as error:
            if started:
                log.warning("%s: broken off after the answer had begun", request_id)
                raise
            response = to_response(error)
            log.info("%s: %s %s answered %d", request_id, scope["method"], scope["path"], response.status_code)
            await response(scope, receive, headed)
