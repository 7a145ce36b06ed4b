"""Exceptions of the client."""

from __future__ import annotations

import httpx
import pytest

import luthier
from luthier import Luthier
from luthier.errors import to_error
from tests.api.stack import Stack


def test_an_invalid_field_is_named(client: Luthier) -> None:
    with pytest.raises(luthier.BadRequestError) as raised:
        client.jobs.create(model="starter", training_file="file-none")
    assert raised.value.param == "training_file"
    assert raised.value.status == 400
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id


def test_an_unknown_field_is_rejected_by_the_server(client: Luthier) -> None:
    with pytest.raises(luthier.BadRequestError) as raised:
        client.jobs.create(model="starter", training_file="file-none", color="red")  # type: ignore[call-arg]
    assert (raised.value.param, raised.value.code) == ("color", "unknown_parameter")


def test_a_wrong_key(stack: Stack) -> None:
    with Luthier(base_url=stack.url, api_key="sk-wrong") as client, pytest.raises(luthier.AuthenticationError):
        client.models.retrieve("starter")


def test_a_base_model_cannot_be_deleted(client: Luthier) -> None:
    with pytest.raises(luthier.PermissionDeniedError):
        client.models.delete("starter")


def test_an_unknown_job_cannot_be_cancelled(client: Luthier, stack: Stack) -> None:
    with pytest.raises(luthier.NotFoundError):
        client.jobs.cancel("ftjob-none")


STATUSES = {
    405: luthier.APIStatusError,
    409: luthier.ConflictError,
    413: luthier.TooLargeError,
    429: luthier.RateLimitError,
    500: luthier.InternalServerError,
    599: luthier.InternalServerError,
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_every_status_has_its_error(status: int, kind: type[luthier.APIStatusError]) -> None:
    assert type(to_error(httpx.Response(status, json={"error": {"message": "no"}}))) is kind


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"[]", b'{"error": "no"}', b"", b"\xff"])
def test_a_response_from_a_proxy_may_have_any_body(body: bytes) -> None:
    error = to_error(httpx.Response(502, content=body))
    assert isinstance(error, luthier.InternalServerError)
    assert "502" in str(error)
    assert error.code is None
