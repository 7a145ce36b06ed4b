"""Context of the conformance checks, and declaration of the client features that a check requires.

This package runs with any version of ``openai``. It imports only that and the standard library.
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
    """A server with objects for the checks. :mod:`tests.conformance.server` creates one."""

    url: str
    """Ends in ``/v1``."""
    proxy_url: str
    """The same server behind a proxy that breaks responses if ``x-conformance-break`` is set."""
    key: str
    pagination_key: str
    """Key of a project with ``pagination_job_count`` jobs, all created at the same time."""
    pagination_job_count: int
    job: str
    """A succeeded job with ``model``, five events and the checkpoints of steps 10 and 20."""
    model: str
    deletable_slashed_model: str
    """A model whose id has slashes and colons, which one check deletes."""
    slashed_model: str
    """Another such model, which no check deletes."""
    spare_models: list[str]
    """Models that checks may delete."""
    webhook: dict[str, Any] | None = None
    """``body``, ``headers`` and ``secret`` of a delivery as the server signs it."""
    clients: dict[Any, openai.OpenAI] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> CheckContext:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps({entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "clients"})

    def get_client(self, *, key: str = "", proxied: bool = False, max_retries: int = 0, strict: bool = True) -> Any:
        """Return the official client. If ``strict``, it rejects responses without OpenAI's
        shapes."""
        options = (key or self.key, proxied, max_retries, strict)
        if options not in self.clients:
            self.clients[options] = openai.OpenAI(**self.client_options(*options))
        return self.clients[options]

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
        """Send a POST and return the raw body of the response."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            data: bytes = response.read()
            return data

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def requires(*features: str, version: tuple[int, int] = (1, 0)) -> Callable[[Function], Function]:
    """Mark a check that requires these client features and at least this version.

    ``files.wait_for_processing`` is a method, ``files.list(order)`` a parameter of a method.
    """

    def mark(function: Function) -> Function:
        function.required_features = (*features, version)  # type: ignore[attr-defined]
        return function

    return mark


def find_missing_feature(check: Check, client: Any) -> str | None:
    """Return the first feature that the check requires and the client lacks, or None."""
    for feature in getattr(check, "required_features", ()):
        if isinstance(feature, tuple):
            if parse_version(openai.__version__) < feature:
                return f"openai {feature[0]}.{feature[1]} or later"
        elif not _has_feature(client, feature):
            return str(feature)
    return None


def parse_version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _has_feature(client: Any, feature: str) -> bool:
    path, _, parameter = feature.rstrip(")").partition("(")
    attribute = client
    for name in path.split("."):
        attribute = getattr(attribute, name, None)
        if attribute is None:
            return False
    return not parameter or parameter in inspect.signature(attribute).parameters


@dataclass
class RaisedError:
    error: Any = None

    def assert_matches(self, status: int, code: str | None, param: str | None = None) -> None:
        """Assert that all four of OpenAI's error fields and the request id are set as client code
        expects them."""
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
