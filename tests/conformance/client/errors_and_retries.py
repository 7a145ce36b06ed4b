"""Errors where client code looks for them, headers, and retries that do nothing twice."""

from __future__ import annotations

import uuid
from typing import Any

import openai

from tests.conformance.client.context import World, needs, raises
from tests.conformance.client.jobs import new_job


def check_not_found(world: World) -> None:
    client = world.client()
    with raises(openai.NotFoundError) as raised:
        client.models.retrieve("no/such:model")
    raised.says(404, "model_not_found", "model")
    with raises(openai.NotFoundError) as raised:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    raised.says(404, None, "fine_tuning_job_id")
    with raises(openai.NotFoundError) as raised:
        client.get("/nothing", cast_to=object)
    raised.says(404, "unknown_url")


def check_bad_request(world: World) -> None:
    client = world.client()
    with raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.list(limit=5000)
    raised.says(400, "invalid_value", "limit")
    with raises(openai.BadRequestError) as raised:
        client.post("/fine_tuning/jobs", body={"model": "starter"}, cast_to=object)
    raised.says(400, "missing_required_parameter", "training_file")
    with raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.create(model="starter", training_file="file-none")
    assert raised.error.param == "training_file"


def check_wrong_key(world: World) -> None:
    with raises(openai.AuthenticationError) as raised:
        world.client(key="sk-luthier-wrong").models.list()
    raised.says(401, "invalid_api_key")


def check_forbidden(world: World) -> None:
    with raises(openai.PermissionDeniedError) as raised:
        world.client().models.delete("starter")
    assert (raised.error.param, raised.error.type) == ("model", "permission_error")


def check_wrong_method(world: World) -> None:
    with raises(openai.APIStatusError) as raised:
        world.client().put("/files", cast_to=object)
    raised.says(405, "method_not_allowed")
    assert "POST" in raised.error.response.headers["allow"]


def check_raw_response(world: World) -> None:
    response = world.client().models.with_raw_response.list()
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["openai-version"] == "2020-10-01"
    assert int(response.headers["openai-processing-ms"]) >= 0
    parsed = response.parse()
    assert "starter" in [model.id for model in parsed.data]


@needs(version=(1, 40))
def check_request_id_on_objects(world: World) -> None:
    assert world.client().models.retrieve("starter")._request_id.startswith("req_")


def made_through(world: World, how: str, **headers: str) -> list[str]:
    """The jobs there are after the first answer of a creation was broken, the one the client knows first."""
    mark = uuid.uuid4().hex
    job = new_job(
        world,
        world.client(proxied=True, max_retries=2),
        extra_body={"metadata": {"mark": mark}},
        extra_headers={"x-conformance-break": f"{how} {mark}", **headers},
    )
    query: Any = {"metadata[mark]": mark}
    found = [each.id for each in world.client().fine_tuning.jobs.list(extra_query=query)]
    return [job.id, *(each for each in found if each != job.id)]


@needs(version=(1, 47))
def check_a_lost_answer_makes_one_job(world: World) -> None:
    """The client sends no Idempotency-Key of its own accord, but counts its tries in a header since 1.47."""
    assert len(made_through(world, "lost")) == 1


@needs(version=(1, 47))
def check_a_500_after_the_work_makes_one_job(world: World) -> None:
    assert len(made_through(world, "error")) == 1


def check_an_idempotency_key_makes_one_job(world: World) -> None:
    assert len(made_through(world, "lost", **{"Idempotency-Key": uuid.uuid4().hex})) == 1


def check_a_refusal_before_the_work_is_retried(world: World) -> None:
    assert len(made_through(world, "refused")) == 1
