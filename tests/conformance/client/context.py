"""What the checks know of the server, and how they say what a client must have to be asked.

This folder runs under any version of ``openai`` there is: it imports that and the standard library, nothing of ours.
"""

from __future__ import annotations

import inspect
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import openai

Check = Callable[["CheckContext"], None]
Function = TypeVar("Function", bound=Callable[..., Any])


class UnsupportedByClient(Exception):
    """This version of the client has no such resource, method or parameter."""


@dataclass(frozen=True)
class CheckContext:
    """A server and what was put there for the checks; :mod:`tests.conformance.server` makes one."""

    url: str
    """Ends in ``/v1``."""
    proxy_url: str
    """The same server behind something that breaks answers when ``x-conformance-break`` asks for it."""
    key: str
    pagination_key: str
    """Of a project with ``walk_jobs`` jobs, all created in the same instant."""
    pagination_job_count: int
    job: str
    """Has succeeded, with ``model``, five events and the checkpoints of the steps 10 and 20."""
    model: str
    deletable_slashed_model: str
    """A model whose id has slashes and colons, to be deleted by one check."""
    slashed_model: str
    """Another one, which stays."""
    spare_models: list[str]
    """Models that may go."""
    webhook: dict[str, Any] | None = None
    """``body``, ``headers`` and ``secret`` of a delivery as the server signs it."""
    clients: dict[Any, openai.OpenAI] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> CheckContext:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self) if each.name != "clients"})

    def get_client(self, *, key: str = "", proxied: bool = False, max_retries: int = 0, strict: bool = True) -> Any:
        """The official client; ``strict``: it refuses answers that do not have OpenAI's shapes."""
        wanted = (key or self.key, proxied, max_retries, strict)
        if wanted not in self.clients:
            self.clients[wanted] = openai.OpenAI(**self.client_options(*wanted))
        return self.clients[wanted]

    def client_options(
        self, key: str = "", proxied: bool = False, max_retries: int = 0, strict: bool = True
    ) -> dict[str, Any]:
        return {
            "base_url": self.proxy_url if proxied else self.url,
            "api_key": key or self.key,
            "max_retries": max_retries,
            "timeout": 30.0,
            "_strict_response_validation": strict,
        }

    def post_raw(self, path: str, body: dict[str, Any]) -> bytes:
        """What a POST answers, as it comes over the wire."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            data: bytes = response.read()
            return data

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def requires(*features: str, version: tuple[int, int] = (1, 0)) -> Callable[[Function], Function]:
    """``files.wait_for_processing`` is a method the client must have, ``files.list(order)`` a parameter of one."""

    def mark(function: Function) -> Function:
        function.required_features = (*features, version)  # type: ignore[attr-defined]
        return function

    return mark


def find_missing_feature(check: Check, client: Any) -> str | None:
    """What this client lacks for the check."""
    for what in getattr(check, "required_features", ()):
        if isinstance(what, tuple):
            if parse_version(openai.__version__) < what:
                return f"openai {what[0]}.{what[1]} or later"
        elif not _has_feature(client, what):
            return str(what)
    return None


def parse_version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _has_feature(client: Any, feature: str) -> bool:
    path, _, parameter = feature.rstrip(")").partition("(")
    found = client
    for name in path.split("."):
        found = getattr(found, name, None)
        if found is None:
            return False
    return not parameter or parameter in inspect.signature(found).parameters


@dataclass
class RaisedError:
    error: Any = None

    def assert_matches(self, status: int, code: str | None, param: str | None = None) -> None:
        """All four of OpenAI's keys where client code looks for them, and the request's id."""
        assert self.error.status_code == status, self.error
        assert self.error.code == code, self.error
        assert self.error.param == param, self.error
        assert self.error.type in {"invalid_request_error", "permission_error", "server_error"}, self.error.type
        assert self.error.message
        request_id = self.error.response.headers["x-request-id"]
        assert request_id.startswith("req_")
        assert getattr(self.error, "request_id", request_id) == request_id


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[RaisedError]:
    """``pytest.raises`` without pytest."""
    raised = RaisedError()
    try:
        yield raised
    except kind as error:
        raised.error = error
        return
    raise AssertionError(f"no {kind.__name__} was raised")
