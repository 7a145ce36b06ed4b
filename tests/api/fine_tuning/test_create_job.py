"""Creation of jobs: the bodies that OpenAI's clients send, and the errors reported before
creation."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from sqlalchemy import func, select
from sqlmodel import col

from storage.access.keys import DEFAULT_ORGANIZATION
from storage.tables import Event, Job
from tests.api.stack import Stack
from tests.api.test_errors import assert_error
from training.updates.lora import LoraUpdate

pytestmark = pytest.mark.integration

JOBS_PATH = "/v1/fine_tuning/jobs"
SUPERVISED_PARAM = "method.supervised.hyperparameters"


@pytest.fixture(scope="module")
def file_id(stack: Stack) -> str:
    return stack.get_client().files.create(file=b'{"messages": []}', purpose="fine-tune").id


def _count_rows(stack: Stack) -> tuple[int, int]:
    async def count(session: Any) -> tuple[int, int]:
        jobs = (await session.execute(select(func.count()).select_from(Job))).scalar_one()
        events = (await session.execute(select(func.count()).select_from(Event))).scalar_one()
        return jobs, events

    return stack.run_in_session(count)


def _get_job(stack: Stack, job_id: str) -> Job:
    async def get(session: Any) -> Job:
        job: Job = await session.get_one(Job, job_id)
        return job

    return stack.run_in_session(get)


def test_the_minimal_body(stack: Stack, file_id: str) -> None:
    client = stack.get_client()
    job = client.fine_tuning.jobs.create(model="starter", training_file=file_id)
    assert (job.status, job.error, job.result_files, job.fine_tuned_model) == ("validating_files", None, [], None)
    assert (job.model, job.training_file, job.validation_file) == ("starter", file_id, None)
    assert job.organization_id == DEFAULT_ORGANIZATION
    assert 0 <= job.seed < 2**31
    assert job.hyperparameters.n_epochs == job.hyperparameters.batch_size == "auto"
    assert job.method is not None
    assert job.method.type == "supervised"
    extra = job.model_extra
    assert extra is not None
    assert (extra["task"], extra["update"]["type"], extra["state"], extra["attempt"]) == ("chat", "lora", job.status, 0)
    assert extra["progress"] is extra["trainable_parameters"] is extra["resume_proof"] is None
    assert extra["servable_by"] == ["luthier", "vllm"]
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    [event] = client.fine_tuning.jobs.list_events(job.id)
    assert (event.level, event.type) == ("info", "message")
    assert job.id in event.message


def test_two_jobs_have_two_seeds(stack: Stack, file_id: str) -> None:
    create = stack.get_client().fine_tuning.jobs.create
    assert len({create(model="starter", training_file=file_id).seed for _ in range(3)}) == 3


def test_every_field(stack: Stack, file_id: str) -> None:
    method: Any = {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 256, "learning_rate_multiplier": 0.5}},
        "dpo": {"hyperparameters": {"beta": "auto"}},
        "reinforcement": {"grader": {"type": "string_check"}},
    }
    job = stack.get_client().fine_tuning.jobs.create(
        model="big-encoder",
        training_file=file_id,
        validation_file=file_id,
        seed=7,
        suffix="my intents: v1/ü",
        metadata={"team": "search", "empty": ""},
        integrations=[],
        method=method,
        extra_body={
            "task": "text-classification",
            "update": {"type": "lora", "rank": 4, "alpha": 8, "target_modules": "all-linear", "dora": False},
            "columns": {"label": "category"},
        },
    )
    assert (job.seed, job.metadata, job.validation_file) == (7, {"team": "search", "empty": ""}, file_id)
    assert job.hyperparameters.n_epochs == 3
    assert job.hyperparameters.learning_rate_multiplier == 0.5
    row = _get_job(stack, job.id)
    assert (row.task, row.columns, row.suffix) == ("text-classification", {"label": "category"}, "my-intents-v1-")
    assert (row.update["rank"], row.update["alpha"]) == (4, 8)
    assert (row.hyperparameters["batch_size"], row.hyperparameters["max_length"]) == (256, "auto")
    assert row.project_id == stack.tenant.project_id


def test_explicit_nulls(stack: Stack, file_id: str) -> None:
    openai_fields = ("validation_file", "suffix", "seed", "metadata", "method", "hyperparameters", "integrations")
    luthier_fields = ("task", "update", "columns")
    with stack.open_http() as http:
        body = {"model": "starter", "training_file": file_id, **dict.fromkeys(openai_fields + luthier_fields)}
        assert http.post(JOBS_PATH, json=body).status_code == 200
        body["method"] = {"type": "supervised", "supervised": None, "dpo": None, "reinforcement": None}
        assert http.post(JOBS_PATH, json=body).status_code == 200
        body["method"] = {"type": "supervised", "supervised": {"hyperparameters": None}}
        assert http.post(JOBS_PATH, json=body).status_code == 200


def test_openais_legacy_hyperparameters_field(stack: Stack, file_id: str) -> None:
    job = stack.get_client().fine_tuning.jobs.create(
        model="starter", training_file=file_id, hyperparameters={"n_epochs": 2, "batch_size": "auto"}
    )
    assert job.hyperparameters.n_epochs == 2
    assert _get_job(stack, job.id).hyperparameters["n_epochs"] == 2


def test_both_hyperparameters_fields_may_agree(stack: Stack, file_id: str) -> None:
    job = stack.get_client().fine_tuning.jobs.create(
        model="starter",
        training_file=file_id,
        hyperparameters={"n_epochs": 2},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
    )
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 4)


def test_an_alias_becomes_the_base_models_id(stack: Stack, file_id: str) -> None:
    job = stack.get_client().fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=file_id)
    assert job.model == "starter"


@pytest.mark.parametrize(
    ("model", "task", "update"),
    [
        ("starter", "chat", "lora"),
        ("encoder", "text-classification", "full"),
        ("big-encoder", "text-classification", "lora"),
    ],
)
def test_default_task_and_update(stack: Stack, file_id: str, model: str, task: str, update: str) -> None:
    job = stack.get_client().fine_tuning.jobs.create(model=model, training_file=file_id)
    row = _get_job(stack, job.id)
    assert (row.task, row.update["type"]) == (task, update)


def _build_supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


def _build_dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}}


LORA = {"type": "lora"}
DPO_PARAM = "method.dpo.hyperparameters"
CLASSIFIER = {"model": "encoder", "task": "text-classification"}
EMBEDDER = {"model": "encoder", "task": "embedding"}

INVALID_JOBS: list[tuple[dict[str, Any], str | None, str, str]] = [
    # Change to a valid body, param, code, text in the message.
    ({"model": "gpt-17"}, "model", "model_not_found", "GET /v1/models"),
    ({"model": "../../etc/passwd"}, "model", "model_not_found", "GET /v1/models"),
    ({"model": "https://hub/org/name"}, "model", "model_not_found", "GET /v1/models"),
    ({"model": "ft:starter:luthier::abcdefgh"}, "model", "model_not_found", "GET /v1/models"),
    ({"model": "absent"}, "model", "base_model_unavailable", "luthierd models pull absent"),
    ({"model": "quantized"}, "model", "base_model_unavailable", "bfloat16 release"),
    ({"model": ""}, "model", "invalid_value", "at least 1"),
    ({"model": "x" * 257}, "model", "invalid_value", "256"),
    ({"model": None}, "model", "missing_required_parameter", "model"),
    ({"model": ...}, "model", "missing_required_parameter", "model"),
    ({"training_file": ...}, "training_file", "missing_required_parameter", "training_file"),
    ({"training_file": "file-none"}, "training_file", "file_not_found", "POST /v1/files"),
    ({"training_file": 3}, "training_file", "invalid_value", "string"),
    ({"validation_file": "file-none"}, "validation_file", "file_not_found", "POST /v1/files"),
    ({"general_file": "file-none"}, "general_file", "file_not_found", "POST /v1/files"),
    ({"task": "text-classification"}, "task", "unsuitable_task", "'chat'"),
    ({"task": "juggling"}, "task", "unsuitable_task", "'chat'"),
    ({"update": {"type": "magic"}}, "update", "invalid_value", "'lora'"),
    ({"update": {}}, "update", "invalid_value", "type"),
    ({"update": {**LORA, "rank": 0}}, "update.rank", "invalid_value", "1"),
    ({"update": {**LORA, "rank": 10**6}}, "update.rank", "invalid_value", "512"),
    ({"update": {**LORA, "dora": True, "target_experts": True}}, "update", "invalid_value", "target_experts"),
    ({"update": {**LORA, "ranck": 3}}, "update.ranck", "unknown_parameter", "ranck"),
    ({"update": {**LORA, "target_modules": ["(a+)+$"]}}, "update.target_modules.0", "invalid_value", "pattern"),
    ({"update": {"type": "full", "rank": 8}}, "update.rank", "unknown_parameter", "rank"),
    ({"update": {**LORA, "base_precision": "int8"}}, "update.base_precision", "invalid_value", "'nf4'"),
    ({"update": {"type": "full", "base_precision": "nf4"}}, "update.base_precision", "unknown_parameter", "Remove it"),
    ({"columns": {"color": "c"}}, "columns.color", "invalid_value", "messages"),
    ({"columns": {"messages": ""}}, "columns.messages", "invalid_value", "at least 1"),
    ({"columns": {str(i): "x" for i in range(65)}}, "columns", "invalid_value", "64"),
    ({"learning_rte": 1}, "learning_rte", "unknown_parameter", "learning_rte"),
    ({"project_id": "proj_other"}, "project_id", "unknown_parameter", "project_id"),
    ({"state": "succeeded"}, "state", "unknown_parameter", "state"),
    ({"suffix": ""}, "suffix", "invalid_value", "at least 1"),
    ({"suffix": "x" * 65}, "suffix", "invalid_value", "64"),
    ({"seed": -1}, "seed", "invalid_value", "0"),
    ({"seed": 2**31}, "seed", "invalid_value", "2147483647"),
    ({"seed": 1.5}, "seed", "invalid_value", "integer"),
    ({"seed": True}, "seed", "invalid_value", "integer"),
    ({"metadata": {"k": 1}}, "metadata.k", "invalid_value", "string"),
    ({"metadata": {"k" * 65: "v"}}, None, "invalid_value", "64"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value", "512"),
    ({"metadata": {str(i): "v" for i in range(17)}}, "metadata", "invalid_value", "16"),
    (
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        "integrations.0.type",
        "integration_unavailable",
        "LUTHIER_WANDB_API_KEY",
    ),
    ({"method": {"type": "reinforcement"}}, "method.type", "unsupported_parameter", "supervised"),
    ({"method": {"type": "wishful"}}, "method.type", "invalid_value", "supervised"),
    ({"method": {}}, "method.type", "missing_required_parameter", "method.type"),
    ({"method": {"type": "supervised", "color": 1}}, "method.color", "unknown_parameter", "color"),
    (_build_supervised(n_epochs=0), f"{SUPERVISED_PARAM}.n_epochs", "invalid_value", "1"),
    (_build_supervised(n_epochs=51), f"{SUPERVISED_PARAM}.n_epochs", "invalid_value", "50"),
    (_build_supervised(n_epochs="3"), f"{SUPERVISED_PARAM}.n_epochs", "invalid_value", "'auto'"),
    (_build_supervised(n_epochs=True), f"{SUPERVISED_PARAM}.n_epochs", "invalid_value", "integer"),
    (_build_supervised(batch_size=257), f"{SUPERVISED_PARAM}.batch_size", "invalid_value", "256"),
    (
        _build_supervised(learning_rate_multiplier=0),
        f"{SUPERVISED_PARAM}.learning_rate_multiplier",
        "invalid_value",
        "0",
    ),
    (_build_supervised(epochs=3), f"{SUPERVISED_PARAM}.epochs", "unknown_parameter", "epochs"),
    (
        _build_supervised(learning_rate=1e-4, learning_rate_multiplier=2),
        SUPERVISED_PARAM,
        "invalid_value",
        "exclude each other",
    ),
    (_build_supervised(max_length=513), f"{SUPERVISED_PARAM}.max_length", "invalid_value", "512"),
    ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "invalid_value", "50"),
    ({"hyperparameters": {"max_length": 513}}, "hyperparameters.max_length", "invalid_value", "512"),
    (
        {"hyperparameters": {"n_epochs": 2}, **_build_supervised(n_epochs=3)},
        "hyperparameters.n_epochs",
        "invalid_value",
        "differ",
    ),
    (
        {"hyperparameters": {"learning_rate": 1e-4}, **_build_supervised(learning_rate_multiplier=3)},
        SUPERVISED_PARAM,
        "invalid_value",
        "exclude each other",
    ),
    # The update and the method must fit the task.
    ({"update": {"type": "head"}}, "update.type", "invalid_value", "'full', 'layers', 'lora'"),
    ({**EMBEDDER, "update": {"type": "head"}}, "update.type", "invalid_value", "'embedding'"),
    ({"update": {"type": "layers", "last": 0}}, "update.last", "invalid_value", "1"),
    ({"update": {"type": "head", "last": 1}}, "update.last", "unknown_parameter", "last"),
    ({**CLASSIFIER, "method": {"type": "dpo"}}, "method.type", "invalid_value", "'chat'"),
    ({**_build_dpo(), "update": {"type": "head"}}, "update.type", "invalid_value", "'lora'"),
    (_build_dpo(beta=0), f"{DPO_PARAM}.beta", "invalid_value", "0"),
    (_build_dpo(beta=2.5), f"{DPO_PARAM}.beta", "invalid_value", "2"),
    (_build_dpo(loss="hinge"), f"{DPO_PARAM}.loss", "invalid_value", "'ipo'"),
    (_build_dpo(max_length=513), f"{DPO_PARAM}.max_length", "invalid_value", "512"),
    (_build_supervised(beta=0.1), f"{SUPERVISED_PARAM}.beta", "unknown_parameter", "beta"),
    ({"hyperparameters": {"loss": "ipo"}}, "hyperparameters.loss", "unknown_parameter", "loss"),
    (
        {"hyperparameters": {"n_epochs": 2}, **_build_dpo(n_epochs=3)},
        "hyperparameters.n_epochs",
        "invalid_value",
        "differ",
    ),
    # Hyperparameters of other tasks.
    (
        _build_supervised(class_weights="balanced"),
        f"{SUPERVISED_PARAM}.class_weights",
        "invalid_value",
        "no effect on the task 'chat'",
    ),
    (
        {**CLASSIFIER, **_build_supervised(train_on_inputs=True)},
        f"{SUPERVISED_PARAM}.train_on_inputs",
        "invalid_value",
        "no effect",
    ),
    (
        {**EMBEDDER, **_build_supervised(label_smoothing=0.1)},
        f"{SUPERVISED_PARAM}.label_smoothing",
        "invalid_value",
        "'embedding'",
    ),
    (
        {**EMBEDDER, **_build_supervised(neftune_alpha=5.0)},
        f"{SUPERVISED_PARAM}.neftune_alpha",
        "invalid_value",
        "no effect",
    ),
    (_build_dpo(neftune_alpha=5.0), f"{DPO_PARAM}.neftune_alpha", "invalid_value", "no effect"),
    (
        {**EMBEDDER, **_build_supervised(gradient_accumulation_steps=2)},
        f"{SUPERVISED_PARAM}.gradient_accumulation_steps",
        "invalid_value",
        "cannot be split",
    ),
    (_build_supervised(optimizer="lion"), f"{SUPERVISED_PARAM}.optimizer", "invalid_value", "'adafactor'"),
    (_build_supervised(dtype="float16"), f"{SUPERVISED_PARAM}.dtype", "invalid_value", "'bfloat16'"),
    (_build_supervised(max_seconds=0), f"{SUPERVISED_PARAM}.max_seconds", "invalid_value", "1"),
    (
        {**CLASSIFIER, **_build_supervised(class_weights={"a": 0})},
        f"{SUPERVISED_PARAM}.class_weights.a",
        "invalid_value",
        "0",
    ),
    (
        {**CLASSIFIER, **_build_supervised(class_weights="even")},
        f"{SUPERVISED_PARAM}.class_weights",
        "invalid_value",
        "'balanced'",
    ),
    # Early stopping requires validation data, and general_share requires a general file.
    (_build_supervised(validation_share=0.6), f"{SUPERVISED_PARAM}.validation_share", "invalid_value", "0.5"),
    (
        {"validation_file": "file-ours", **_build_supervised(validation_share=0.1)},
        f"{SUPERVISED_PARAM}.validation_share",
        "invalid_value",
        "not both",
    ),
    (
        _build_supervised(early_stopping_patience=2),
        f"{SUPERVISED_PARAM}.early_stopping_patience",
        "invalid_value",
        "send a validation_file, or a validation_share",
    ),
    (
        _build_supervised(early_stopping_patience=2, validation_share=0.0),
        f"{SUPERVISED_PARAM}.early_stopping_patience",
        "invalid_value",
        "validation_share",
    ),
    (_build_supervised(general_share=0.1), f"{SUPERVISED_PARAM}.general_share", "invalid_value", "general_file"),
    (_build_supervised(general_share=0.95), f"{SUPERVISED_PARAM}.general_share", "invalid_value", "0.9"),
    (_build_dpo(general_share=0.1), f"{DPO_PARAM}.general_share", "invalid_value", "general_file"),
]


@pytest.mark.parametrize(("change", "param", "code", "text"), INVALID_JOBS, ids=lambda value: str(value)[:40])
def test_invalid_jobs(
    stack: Stack, file_id: str, change: dict[str, Any], param: str | None, code: str, text: str
) -> None:
    before = _count_rows(stack)
    merged = {"model": "starter", "training_file": file_id, **change}
    body = {name: value for name, value in merged.items() if value is not ...}
    with stack.open_http() as http:
        error = assert_error(http.post(JOBS_PATH, json=body), 400)
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    if param:
        assert error["param"] == param
    assert text in error["message"]
    assert _count_rows(stack) == before, "the rejected request left rows"


@pytest.mark.parametrize("purpose", ["vision", "user_data", "fine-tune-results"])
@pytest.mark.parametrize("field", ["training_file", "validation_file", "general_file"])
def test_a_file_of_the_wrong_purpose(stack: Stack, file_id: str, field: str, purpose: str) -> None:
    body = {"model": "starter", "training_file": file_id, field: stack.insert_file(purpose).id}
    with stack.open_http() as http:
        error = assert_error(http.post(JOBS_PATH, json=body), 400)
    assert (error["param"], error["code"]) == (field, "invalid_purpose")
    assert "'fine-tune'" in error["message"]


def test_a_lost_wakeup_costs_the_client_nothing(stack: Stack, file_id: str) -> None:
    # This stack has no Redis, and the job exists nevertheless.
    job = stack.get_client().fine_tuning.jobs.create(model="starter", training_file=file_id)
    assert _get_job(stack, job.id).state == "validating_files"


def test_created_at_and_ids_have_openais_spelling(stack: Stack, file_id: str) -> None:
    with stack.open_http() as http:
        job = http.post(JOBS_PATH, json={"model": "starter", "training_file": file_id}).json()
    assert job["id"].startswith("ftjob-")
    assert isinstance(job["created_at"], int)
    assert job["error"] is None
    assert isinstance(job["hyperparameters"], dict)


def test_columns_are_checked_against_the_tasks_row(stack: Stack, file_id: str) -> None:
    body = {"model": "encoder", "training_file": file_id, "columns": {"text": "question", "label": "intent"}}
    with stack.open_http() as http:
        assert http.post(JOBS_PATH, json=body).json()["columns"] == body["columns"]

    async def list_columns(session: Any) -> list[Any]:
        return list((await session.execute(select(col(Job.columns)))).scalars())

    assert body["columns"] in stack.run_in_session(list_columns)


def test_preference(stack: Stack, file_id: str) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "loss": "ipo", "n_epochs": 2}}}
    job = stack.get_client().fine_tuning.jobs.create(model="starter", training_file=file_id, method=method)
    assert job.method is not None
    assert job.method.type == "dpo"
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert job.hyperparameters.n_epochs == 2
    row = _get_job(stack, job.id)
    assert (row.task, row.method, row.hyperparameters["loss"]) == ("chat", {"type": "dpo"}, "ipo")


def test_hyperparameters_of_the_other_method_are_ignored(stack: Stack, file_id: str) -> None:
    method: Any = {
        "type": "dpo",
        "dpo": {"hyperparameters": {"beta": 0.3}},
        "supervised": {"hyperparameters": {"n_epochs": 7}},
    }
    job = stack.get_client().fine_tuning.jobs.create(model="starter", training_file=file_id, method=method)
    assert _get_job(stack, job.id).hyperparameters["n_epochs"] == "auto"
    assert _get_job(stack, job.id).hyperparameters["beta"] == 0.3


@pytest.mark.parametrize(
    "change",
    [
        _build_supervised(early_stopping_patience=2, validation_share=0.1),
        {"validation_file": ..., **_build_supervised(early_stopping_patience=2)},
        {"general_file": ..., **_build_supervised(general_share=0.3, l2_to_base=0.01)},
        {"general_file": ...},
        {"validation_file": ..., **_build_supervised(validation_share=0.0, early_stopping_patience=0)},
        {**CLASSIFIER, **_build_supervised(class_weights={"a": 2, "b": 0.5}, neftune_alpha=5)},
        {**CLASSIFIER, "update": {"type": "head"}},
        {"update": {"type": "layers"}},
        _build_supervised(train_on_inputs=True, label_smoothing=0.1, gradient_checkpointing=True, max_seconds=60),
        {**EMBEDDER, **_build_supervised(gradient_accumulation_steps=1)},
        {**_build_dpo(label_smoothing=0.1), "general_file": ...},
    ],
    ids=str,
)
def test_valid_jobs(stack: Stack, file_id: str, change: dict[str, Any]) -> None:
    """``...`` is a placeholder for the file's id."""
    body = {"model": "starter", "training_file": file_id, **change}
    with stack.open_http() as http:
        response = http.post(JOBS_PATH, json={name: file_id if value is ... else value for name, value in body.items()})
    assert response.status_code == 200, response.text
    job = response.json()
    assert job["general_file"] == (file_id if "general_file" in change else None)
    kind = job["method"]["type"]
    for name, value in change.get("method", {}).get(kind, {}).get("hyperparameters", {}).items():
        assert job["method"][kind]["hyperparameters"][name] == value


UPDATES: dict[str, Any] = {
    "lora": LoraUpdate(rank=4, alpha=8, dropout=0.1).model_dump(),
    "full": {"type": "full"},
}


def test_a_job_continues_from_a_tuned_model(stack: Stack, file_id: str) -> None:
    """The job inherits the model's task and update unless the request states others."""
    model = stack.insert_model(update=UPDATES["lora"])
    job = stack.get_client().fine_tuning.jobs.create(model=model.id, training_file=file_id)
    assert job.model == model.id
    assert job.model_extra is not None
    assert job.model_extra["base_model"] == "starter"
    row = _get_job(stack, job.id)
    assert (row.base_model, row.task, row.update) == ("starter", "chat", UPDATES["lora"])
    assert row.starting_point == {
        "model": model.id,
        "prefix": model.prefix,
        "part": "",
        "manifest_sha256": model.manifest_sha256,
    }


def test_a_job_continues_from_a_checkpoint(stack: Stack, file_id: str) -> None:
    job = stack.insert_job(state="running", update=UPDATES["lora"])
    checkpoint = stack.insert_checkpoint(job, 12)
    name = f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-12"
    new = stack.get_client().fine_tuning.jobs.create(model=name, training_file=file_id)
    assert new.model == name
    assert _get_job(stack, new.id).starting_point == {
        "model": name,
        "prefix": checkpoint.prefix,
        "part": "model/",
        "manifest_sha256": checkpoint.manifest_sha256,
    }


@pytest.mark.parametrize(
    ("source_update", "update"),
    [
        ("lora", {**UPDATES["lora"], "dropout": 0.3}),
        ("full", {"type": "full"}),
        ("full", {"type": "head"}),
        ("full", {"type": "layers", "last": 1}),
    ],
)
def test_ways_to_continue(stack: Stack, file_id: str, source_update: str, update: dict[str, Any]) -> None:
    model = stack.insert_model(base_model="encoder", task="text-classification", update=UPDATES[source_update])
    body = {"model": model.id, "training_file": file_id, "update": update}
    with stack.open_http() as http:
        job = http.post(JOBS_PATH, json=body).json()
    assert (job["task"], job["update"]) == ("text-classification", update)


@pytest.mark.parametrize(
    ("source_update", "change", "param"),
    [
        ("lora", {"update": {"type": "full"}}, "update"),
        ("lora", {"update": {**UPDATES["lora"], "rank": 8}}, "update"),
        ("lora", {"update": {**UPDATES["lora"], "alpha": 16}}, "update"),
        ("lora", {"update": {**UPDATES["lora"], "dora": True}}, "update"),
        ("lora", {"update": {**UPDATES["lora"], "base_precision": "nf4"}}, "update"),
        ("lora", {"update": {**UPDATES["lora"], "target_modules": ["query"]}}, "update"),
        ("full", {"update": LORA}, "update"),
        ("full", {"task": "embedding"}, "task"),
    ],
    ids=str,
)
def test_unsuitable_starting_points(
    stack: Stack, file_id: str, source_update: str, change: dict[str, Any], param: str
) -> None:
    model = stack.insert_model(base_model="encoder", task="text-classification", update=UPDATES[source_update])
    with stack.open_http() as http:
        error = assert_error(http.post(JOBS_PATH, json={"model": model.id, "training_file": file_id, **change}), 400)
    assert (error["code"], error["param"]) == ("unsuitable_model", param)
    assert model.id in error["message"]


def test_preference_continues_from_a_tuned_model(stack: Stack, file_id: str) -> None:
    model = stack.insert_model(update=UPDATES["lora"])
    with stack.open_http() as http:
        job = http.post(JOBS_PATH, json={"model": model.id, "training_file": file_id, **_build_dpo()}).json()
    assert (job["method"]["type"], job["model"]) == ("dpo", model.id)


def test_another_projects_model_is_no_starting_point(stack: Stack, file_id: str) -> None:
    other_stack = stack.as_other_tenant()
    for name in (other_stack.insert_model(update=UPDATES["lora"]).id, "ft:starter:luthier::abcdefgh:ckpt-step-1"):
        with pytest.raises(openai.BadRequestError) as caught:
            stack.get_client().fine_tuning.jobs.create(model=name, training_file=file_id)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
