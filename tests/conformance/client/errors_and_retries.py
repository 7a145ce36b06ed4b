"""Checks of errors, headers, and retries that repeat no work."""

from __future__ import annotations

import uuid
from typing import Any

import openai

from tests.conformance.client.context import CheckContext, raises, requires
from tests.conformance.client.jobs import create_job


def check_not_found(context: CheckContext) -> None:
    client = context.get_client()
    with raises(openai.NotFoundError) as raised:
        client.models.retrieve("no/such:model")
    raised.assert_matches(404, "model_not_found", "model")
    with raises(openai.NotFoundError) as raised:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    raised.assert_matches(404, None, "fine_tuning_job_id")
    with raises(openai.NotFoundError) as raised:
        client.get("/nothing", cast_to=object)
    raised.assert_matches(404, "unknown_url")


def check_bad_request(context: CheckContext) -> None:
    client = context.get_client()
    with raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.list(limit=5000)
    raised.assert_matches(400, "invalid_value", "limit")
    with raises(openai.BadRequestError) as raised:
        client.post("/fine_tuning/jobs", body={"model": "starter"}, cast_to=object)
    raised.assert_matches(400, "missing_required_parameter", "training_file")
    with raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.create(model="starter", training_file="file-none")
    assert raised.error.param == "training_file"


def check_wrong_key(context: CheckContext) -> None:
    with raises(openai.AuthenticationError) as raised:
        context.get_client(key="sk-luthier-wrong").models.list()
    raised.assert_matches(401, "invalid_api_key")


def check_forbidden(context: CheckContext) -> None:
    with raises(openai.PermissionDeniedError) as raised:
        context.get_client().models.delete("starter")
    assert (raised.error.param, raised.error.type) == ("model", "permission_error")


def check_wrong_method(context: CheckContext) -> None:
    with raises(openai.APIStatusError) as raised:
        context.get_client().put("/files", cast_to=object)
    raised.assert_matches(405, "method_not_allowed")
    assert "POST" in raised.error.response.headers["allow"]


def check_raw_response(context: CheckContext) -> None:
    response = context.get_client().models.with_raw_response.list()
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["openai-version"] == "2020-10-01"
    assert int(response.headers["openai-processing-ms"]) >= 0
    parsed = response.parse()
    assert "starter" in [model.id for model in parsed.data]


@requires(version=(1, 40))
def check_request_id_on_objects(context: CheckContext) -> None:
    assert context.get_client().models.retrieve("starter")._request_id.startswith("req_")


def create_job_through_proxy(context: CheckContext, failure: str, **headers: str) -> list[str]:
    """Create a job through the proxy, which breaks the first attempt. Returns the ids of all jobs
    that exist afterwards, first the one that the client received."""
    mark = uuid.uuid4().hex
    job = create_job(
        context,
        context.get_client(proxied=True, max_retries=2),
        extra_body={"metadata": {"mark": mark}},
        extra_headers={"x-conformance-break": f"{failure} {mark}", **headers},
    )
    query: Any = {"metadata[mark]": mark}
    ids = [listed.id for listed in context.get_client().fine_tuning.jobs.list(extra_query=query)]
    return [job.id, *(job_id for job_id in ids if job_id != job.id)]


@requires(version=(1, 47))
def check_a_lost_answer_makes_one_job(context: CheckContext) -> None:
    """The client sends no Idempotency-Key by default, but counts its retries in a header since
    1.47."""
    assert len(create_job_through_proxy(context, "lost")) == 1


@requires(version=(1, 47))
def check_a_500_after_the_work_makes_one_job(context: CheckContext) -> None:
    assert len(create_job_through_proxy(context, "error")) == 1


def check_an_idempotency_key_makes_one_job(context: CheckContext) -> None:
    assert len(create_job_through_proxy(context, "lost", **{"Idempotency-Key": uuid.uuid4().hex})) == 1


def check_a_refusal_before_the_work_is_retried(context: CheckContext) -> None:
    assert len(create_job_through_proxy(context, "refused")) == 1
