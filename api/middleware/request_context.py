"""Request ids, response headers and the mapping of exceptions to responses."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.exception_handlers import to_response
from storage.ids import new_id

log = logging.getLogger("luthier.api")

OPENAI_VERSION = "2020-10-01"


class RequestContextMiddleware:
    """Adds headers to every response and converts every exception to a response.

    ``scope["state"]`` holds the ``request_id``, and ``headers``, to which inner layers add.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started_at, has_started = new_id("request"), time.perf_counter(), False
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "headers": {}}

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started_at) * 1000))
                headers["openai-version"] = OPENAI_VERSION
                headers.update(state["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("%s: the client disconnected before the request was complete", request_id)
        # The boundary of the process: an exception that no layer converted becomes a 500 in
        # OpenAI's format.
        except Exception as error:
            if has_started:
                log.warning("%s: failed after the response had started", request_id)
                raise
            response = to_response(error)
            log.info("%s: %s %s returned %d", request_id, scope["method"], scope["path"], response.status_code)
            await response(scope, receive, send_with_headers)
