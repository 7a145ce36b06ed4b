"""Authentication by API key."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Unauthorized
from storage.access.keys import Principal


class Authenticator(Protocol):
    async def __call__(self, scope: Scope, key: str) -> Principal | None: ...


class AuthenticationMiddleware:
    """Authentication that fails closed: every path except the public ones needs a key.

    Paths without a route need one, too. ``scope["state"]["principal"]`` holds the key's principal.
    """

    def __init__(self, app: ASGIApp, public_paths: frozenset[str], authenticate: Authenticator) -> None:
        self.app = app
        self.public_paths = public_paths
        self.authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.public_paths:
            key = extract_api_key(Headers(scope=scope))
            principal = await self.authenticate(scope, key) if key else None
            if principal is None:
                raise Unauthorized
            state = scope["state"]
            state["principal"] = replace(principal, request_id=state["request_id"])
            state["headers"]["openai-organization"] = principal.organization_id
        await self.app(scope, receive, send)


def extract_api_key(headers: Headers) -> str | None:
    """Return the key from ``Authorization: Bearer`` or ``x-api-key``.

    Return None if there is no key, or if two keys differ.
    """
    keys = set(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, key = value.partition(" ")
        keys.add(key.strip() if scheme.lower() == "bearer" else "")
    return keys.pop() if len(keys) == 1 else None
