"""Models: bases, tuned models and checkpoints by name, odd names included; and weight downloads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from api.app import create_app
from storage import blobs as blob_stores
from storage.tables import Job, Model
from tests.api.stack import Stack, get_port, run_server
from tests.api.test_errors import assert_error


def test_list_has_bases_and_own_models(stack: Stack) -> None:
    stack = stack.with_new_project()
    model = stack.insert_model(suffix="own")
    models = list(stack.get_client().models.list())
    assert [listed.id for listed in models] == ["starter", "encoder", "big-encoder", "quantized", "absent", model.id]
    assert [listed.owned_by for listed in models[-2:]] == ["luthier", stack.tenant.project_id]
    extras = [listed.model_extra or {} for listed in models]
    assert [extra["available"] for extra in extras] == [True, True, True, True, False, True]
    assert (extras[-1]["base_model"], extras[-1]["tasks"]) == ("starter", ["chat"])


def test_retrieve_by_id_and_alias(stack: Stack) -> None:
    client = stack.get_client()
    assert client.models.retrieve("starter").id == "starter"
    assert client.models.retrieve("gpt-4o-mini-2024-07-18").id == "starter"
    model = stack.insert_model()
    assert client.models.retrieve(model.id).created == int(model.created_at)


def test_a_checkpoint_is_a_model(stack: Stack) -> None:
    job = stack.insert_job(state="running", suffix="a_b%c")
    stack.insert_checkpoint(job, 5)
    stack.insert_checkpoint(job, 10, published=False)
    name = f"ft:starter:luthier:a_b%c:{job.id[-8:]}:ckpt-step-"
    client = stack.get_client()
    assert client.models.retrieve(name + "5").id == name + "5"
    for unknown in ("10", "7", "", "x", "٥", "5:ckpt-step-5", "9" * 30):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name + unknown)


@pytest.mark.parametrize("prefix", ["", "ft:other:luthier:", "ft:starter:luthier::"])
def test_only_the_full_name_of_a_checkpoint_counts(stack: Stack, prefix: str) -> None:
    job = stack.insert_job(state="running", suffix="s")
    stack.insert_checkpoint(job, 5)
    with stack.open_http() as http:
        assert_error(http.get(f"/v1/models/{prefix}{job.id[-8:]}:ckpt-step-5"), 404)


ODD_NAMES = ["meta-llama/Llama-3.1-8B", "a/b/c", "../../etc/passwd", "x y", "ü", "a%2Fb", "a?b#c", "x" * 5000]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: name[:20])
def test_odd_names_are_unknown_models(stack: Stack, name: str) -> None:
    client = stack.get_client()
    for send in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            send(name)
        assert caught.value.code == "model_not_found"


def test_a_name_with_slashes_reaches_its_model(stack: Stack) -> None:
    job = stack.insert_job(base_model="org/base", state="succeeded")
    model = Model(
        id=f"ft:org/base:luthier::{job.id[-8:]}",
        project_id=stack.tenant.project_id,
        job_id=job.id,
        created_at=1.0,
        base_model="org/base",
        task="chat",
        update="lora",
        prefix="p/x",
        manifest_sha256="0" * 64,
    )
    stack.insert(model)
    assert stack.get_client().models.retrieve(model.id).id == model.id
    with stack.open_http() as http:
        assert http.get(f"/v1/models/{model.id.replace('/', '%2F')}").json()["id"] == model.id
        assert http.get(f"/v1/models/{model.id}/download").headers["content-type"] == "application/zip"


def test_delete(stack: Stack) -> None:
    client, model = stack.get_client(), stack.insert_model()
    key = f"{model.prefix}/adapter.safetensors"
    stack.blobs.put_bytes(key, b"weights")
    client.get(f"/models/{model.id}/download", cast_to=httpx.Response)
    assert len(list(stack.blobs.list(model.prefix))) == 1
    deleted = client.models.delete(model.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (model.id, True, "model")
    assert list(stack.blobs.list(model.prefix)) == []
    for send in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError):
            send(model.id)
    assert model.id not in [listed.id for listed in client.models.list()]

    async def get_job(session: Any) -> Job:
        job: Job = await session.get_one(Job, model.job_id)
        return job

    assert stack.run_in_session(get_job).state == "succeeded"


def test_bases_and_checkpoints_are_not_deleted(stack: Stack) -> None:
    job = stack.insert_job(state="succeeded")
    stack.insert_checkpoint(job, 3)
    for name in ("starter", f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-3"):
        with pytest.raises(openai.PermissionDeniedError):
            stack.get_client().models.delete(name)
        assert stack.get_client().models.retrieve(name).id == name


@pytest.mark.parametrize("variant", ["adapter", "merged"])
def test_download(stack: Stack, variant: str) -> None:
    model, before = stack.insert_model(suffix="my model"), stack.engine.export_count
    with stack.open_http() as http:
        responses = [http.get(f"/v1/models/{model.id}/download", params={"variant": variant}) for _ in range(2)]
    assert stack.engine.export_count == before + 1, "a repeated download reuses the export"
    assert stack.engine.requests[-1]["ref"]["manifest_sha256"] == model.manifest_sha256
    for response in responses:
        assert response.status_code == 200
        assert hashlib.sha256(response.content).hexdigest() == response.headers["x-content-sha256"]
        assert int(response.headers["content-length"]) == len(response.content)
        assert response.headers["content-disposition"].endswith(f'-{variant}.zip"')
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert variant in archive.read("adapter_config.json").decode()


def test_a_checkpoint_can_be_downloaded(stack: Stack) -> None:
    job = stack.insert_job(state="running")
    checkpoint = stack.insert_checkpoint(job, 4)
    with stack.open_http() as http:
        response = http.get(f"/v1/models/ft:starter:luthier::{job.id[-8:]}:ckpt-step-4/download")
    assert response.status_code == 200
    ref = stack.engine.requests[-1]["ref"]
    assert (ref["prefix"], ref["part"]) == (checkpoint.prefix, "model/")


def test_a_base_is_not_downloaded(stack: Stack) -> None:
    with stack.open_http() as http:
        assert assert_error(http.get("/v1/models/starter/download"), 400)["code"] == "unsuitable_model"
        assert_error(http.get("/v1/models/unknown/download"), 404)
        error = assert_error(http.get("/v1/models/starter/download", params={"variant": "gguf"}), 400)
    assert error["param"] == "variant"
    assert "'adapter' or 'merged'" in error["message"]


def test_a_download_of_damaged_bytes_breaks_off(stack: Stack) -> None:
    model = stack.insert_model()
    folder = Path(stack.settings.blob_url.removeprefix("file://")) / "exports"
    with stack.open_http() as http:
        path = f"/v1/models/{model.id}/download"
        assert http.get(path).status_code == 200
        name = hashlib.sha256(model.id.encode()).hexdigest()
        with (folder / f"{name}-adapter.zip").open("r+b") as file:
            file.write(b"damage")
        with pytest.raises(httpx.RemoteProtocolError):
            http.get(path)


@pytest.fixture
def s3_stack(stack: Stack, s3_url: str) -> Iterator[Stack]:
    """The same database with its blobs in a bucket, served over real HTTP."""
    settings = stack.settings.model_copy(update={"blob_url": s3_url})
    bucket, folder = blob_stores.connect(s3_url), stack.engine.blobs
    with run_server(create_app(settings), host="127.0.0.1", port=0) as server:
        stack.engine.blobs = bucket
        yield replace(stack, settings=settings, blobs=bucket, url=f"http://127.0.0.1:{get_port(server)}", clients={})
        stack.engine.blobs = folder


def test_a_bucket_serves_the_download_itself(s3_stack: Stack) -> None:
    model = s3_stack.insert_model(suffix="s")
    with s3_stack.open_http() as http:
        response = http.get(f"/v1/models/{model.id}/download")
    assert response.status_code == 302
    assert "Expires=" in response.headers["location"]
    # The signed URL needs no key.
    fetched = httpx.get(response.headers["location"])
    assert hashlib.sha256(fetched.content).hexdigest() == response.headers["x-content-sha256"]
    filename = f"ft-starter-luthier-s-{model.job_id[-8:]}-adapter.zip"
    assert fetched.headers["content-disposition"] == f'attachment; filename="{filename}"'


def test_files_over_a_bucket(s3_stack: Stack) -> None:
    client = s3_stack.get_client()
    file = client.files.create(file=b"x" * 3_000_000, purpose="fine-tune")
    assert client.files.content(file.id).read() == b"x" * 3_000_000
    client.files.delete(file.id)
    assert list(s3_stack.blobs.list(f"projects/{s3_stack.tenant.project_id}/files")) == []
    client.close()
