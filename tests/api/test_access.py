"""Who may do what: no route without a key, and another project's things are not there, whoever asks and however."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.app import PUBLIC, create_app
from storage.keys import create_key, revoke_key
from tests.api.stack import Stack
from tests.api.test_errors import error_of

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def operations(stack: Stack) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of every route."""
    paths = create_app(stack.settings).openapi()["paths"]
    return [(method, path, operation) for path, found in paths.items() for method, operation in found.items()]


def test_only_these_paths_are_public(stack: Stack) -> None:
    assert {"/healthz", "/readyz", "/openapi.json", "/docs"} == PUBLIC
    with stack.bare() as http:
        for path in PUBLIC:
            assert http.get(path).status_code in (200, 503)


def _without_a_key(stack: Stack) -> list[dict[str, str]]:
    async def revoked(session: Any) -> str:
        key, row = await create_key(session, stack.ours.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    key = stack.ours.key
    return [
        {},
        {"authorization": "Bearer sk-luthier-wrong"},
        {"authorization": f"Bearer {stack.session(revoked)}"},
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": f"Bearer {key}x"},
        {"authorization": f"Bearer x{key}"},
        {"authorization": "Bearer"},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"authorization": f"Bearer {key}", "x-api-key": "wrong"},
        {"authorization": "Bearer \xff\xfe"},
    ]


def test_no_operation_without_a_key(stack: Stack) -> None:
    """Every operation answers no key and bad keys with the same bytes, before it looks at path, query or body."""
    bodies: set[bytes] = set()
    protected = [(method, path) for method, path, _ in operations(stack) if path not in PUBLIC]
    keys = _without_a_key(stack)
    cells = [(each, headers) for each in protected for headers in keys[:2]]
    cells += [(("get", "/v1/models"), headers) for headers in keys]
    with stack.bare() as http:
        for (method, path), headers in cells:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            answer = http.request(method, path, headers=raw, content=b"{" if method == "post" else None)
            assert error_of(answer, 401)["code"] == "invalid_api_key", (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            bodies.add(answer.content)
    assert len(bodies) == 1


def test_two_keys_are_no_key(stack: Stack) -> None:
    headers = [("authorization", f"Bearer {stack.ours.key}"), ("authorization", f"Bearer {stack.theirs.key}")]
    error_of(httpx.get(f"{stack.url}/v1/models", headers=headers), 401)


def test_a_key_in_the_query_is_no_key(stack: Stack) -> None:
    error_of(httpx.get(f"{stack.url}/v1/models", params={"api_key": stack.ours.key}), 401)


@pytest.mark.parametrize("path", ["/v1/none", "/none", "/", "/v1", "/docs/x", "//healthz", "/healthz/", "/metrics"])
def test_paths_without_a_route_need_a_key_too(stack: Stack, path: str) -> None:
    with stack.bare() as http:
        error_of(http.get(stack.url + path), 401)


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "authorization: bearer  {}", "X-Api-Key: {}"])
def test_ways_to_send_a_key(stack: Stack, header: str) -> None:
    name, _, value = header.format(stack.ours.key).partition(": ")
    assert httpx.get(f"{stack.url}/v1/models", headers={name: value}).status_code == 200


Make = Callable[[Stack], str]


def _file(stack: Stack) -> str:
    return stack.client().files.create(file=b"x", purpose="fine-tune").id


def _job(stack: Stack) -> str:
    return stack.job().id


def _model(stack: Stack) -> str:
    return stack.model().id


def _checkpoint_model(stack: Stack) -> str:
    job = stack.job(state="running")
    stack.checkpoint(job, 1)
    return f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-1"


IDS: dict[str, dict[str, tuple[Make, ...]]] = {
    # operation -> where it takes an id (path parameter, query:name or body:name) -> what makes one
    "create_file": {},
    "list_files": {"query:after": (_file,)},
    "retrieve_file": {"file_id": (_file,)},
    "delete_file": {"file_id": (_file,)},
    "retrieve_file_content": {"file_id": (_file,)},
    "create_fine_tuning_job": {
        "body:model": (_model, _checkpoint_model),
        "body:training_file": (_file,),
        "body:validation_file": (_file,),
    },
    "list_fine_tuning_jobs": {"query:after": (_job,)},
    "retrieve_fine_tuning_job": {"job_id": (_job,)},
    "cancel_fine_tuning_job": {"job_id": (_job,)},
    "list_fine_tuning_events": {"job_id": (_job,)},
    "list_fine_tuning_job_checkpoints": {"job_id": (_job,)},
    "list_models": {},
    "download_model": {"model": (_model, _checkpoint_model)},
    "retrieve_model": {"model": (_model, _checkpoint_model)},
    "delete_model": {"model": (_model, _checkpoint_model)},
    "create_chat_completion": {"body:model": (_model, _checkpoint_model)},
    "create_completion": {"body:model": (_model, _checkpoint_model)},
    "create_embeddings": {"body:model": (_model, _checkpoint_model)},
    "create_predictions": {"body:model": (_model, _checkpoint_model)},
}

UNKNOWN: dict[Make, str] = {
    _file: "file-none",
    _job: "ftjob-none",
    _model: "ft:starter:luthier::none",
    _checkpoint_model: "ft:starter:luthier::none:ckpt-step-1",
}


def _bodies(mine: str) -> dict[str, dict[str, Any]]:
    return {
        "create_fine_tuning_job": {"model": "starter", "training_file": mine},
        "create_chat_completion": {"model": "starter", **CHAT},
        "create_completion": {"model": "starter", "prompt": "Hi"},
        "create_embeddings": {"model": "encoder", "input": "x"},
        "create_predictions": {"model": "encoder", "inputs": ["x"]},
    }


def _asked(http: httpx.Client, method: str, path: str, name: str, place: str, value: str, mine: str) -> httpx.Response:
    kind, _, field = place.rpartition(":")
    params = {field: value} if kind == "query" else {}
    body = _bodies(mine).get(name)
    if kind == "body":
        body = {**(body or {}), field: value}
    url = path.replace(f"{{{field}}}", value.replace("/", "%2F"))
    return http.request(method, url, params=params, json=body) if body else http.request(method, url, params=params)


def test_another_projects_id_is_like_an_unknown_one(stack: Stack) -> None:
    """The matrix: every operation × every place that takes an id × what it can name. Byte for byte the same answer."""
    theirs = stack.as_theirs()
    mine = _file(stack)
    cells = 0
    with stack.http() as http, theirs.http() as their_http:
        for method, path, operation in operations(stack):
            name = operation["operationId"]
            for place, makers in IDS.get(name, {}).items():
                for make in makers:
                    foreign = make(theirs)
                    answers = [
                        _asked(http, method, path, name, place, value, mine) for value in (foreign, UNKNOWN[make])
                    ]
                    where = (name, place, make.__name__)
                    assert answers[0].status_code in (400, 404), where
                    assert answers[0].content == answers[1].content, where
                    assert theirs.ours.project_id not in answers[0].text
                    # The owner's answer differs, so the cell tests what it says.
                    own = _asked(their_http, method, path, name, place, foreign, _file(theirs))
                    assert own.content != answers[0].content, where
                    cells += 1
    assert cells > 20


def test_every_operation_and_path_parameter_is_in_the_matrix(stack: Stack) -> None:
    for _, path, operation in operations(stack):
        if path not in PUBLIC:
            assert operation["operationId"] in IDS, "a new route needs its line in IDS"
            assert set(re.findall(r"\{(\w+)\}", path)) <= set(IDS[operation["operationId"]])


def test_a_revoked_key_ends_at_once(stack: Stack) -> None:
    async def made(session: Any) -> tuple[str, str]:
        key, row = await create_key(session, stack.ours.project_id, "short")
        return key, row.id

    key, key_id = stack.session(made)
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{stack.url}/v1/models", headers=headers).status_code == 200

    async def revoked(session: Any) -> bool:
        return await revoke_key(session, key_id)

    assert stack.session(revoked)
    error_of(httpx.get(f"{stack.url}/v1/models", headers=headers), 401)


def test_secrets_stay_out_of_answers(stack: Stack) -> None:
    with stack.http() as http:
        texts = [http.get(path).text for path in ("/v1/models", "/v1/files", "/v1/none", "/openapi.json", "/readyz")]
    assert not any(stack.ours.key in text or str(stack.settings.home) in text for text in texts)
