"""The application: public routes, readiness checks, documentation and startup."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import _remove_stale_uploads, create_app, create_app_from_environment
from api.routes import health
from tests.api.stack import Stack, build_settings, prepare_database
from tests.api.test_errors import AsgiClient


def test_alive_and_documented_without_a_key(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{stack.url}/openapi.json").json()["openapi"].startswith("3.1")
    assert "swagger" in httpx.get(f"{stack.url}/docs").text


def test_ready_names_the_part_that_is_down(stack: Stack) -> None:
    # There is no Redis in this stack.
    response = httpx.get(f"{stack.url}/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "status": "not ready",
        "checks": {"database": "ok", "blobs": "ok", "redis": "down", "engine": "ok"},
    }


@pytest.mark.anyio
async def test_not_ready_when_nothing_answers() -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = build_settings(Path(home), database_url="postgresql+asyncpg://none:x@127.0.0.1:1/none")
        app = create_app(settings)
        (settings.home / "blobs").mkdir(exist_ok=True)
        async with app.router.lifespan_context(app):
            (settings.home / "blobs" / ".aside").rmdir()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                response = await http.get("/readyz")
    assert response.status_code == 503
    assert set(response.json()["checks"].values()) == {"down"}


@pytest.mark.anyio
async def test_ready_when_everything_answers() -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = build_settings(Path(home))
        [tenant, _] = await prepare_database(settings)
        app = create_app(settings)
        calls: list[str] = []

        async def succeed(resources: Any) -> None:
            calls.append("checked")

        checks = {**health.CHECKS, "redis": succeed, "engine": succeed}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(health, "CHECKS", checks)
            response = await AsgiClient(app, tenant).get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert len(calls) == 2


def test_every_operation_is_documented(stack: Stack) -> None:
    schema = httpx.get(f"{stack.url}/openapi.json").json()
    ids = []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            ids.append(operation["operationId"])
            assert operation["description"], path
            if path.startswith("/v1"):
                assert {"200", "400", "401", "500", "503", "default"} <= set(operation["responses"]), path
                assert "422" not in operation["responses"]
                assert operation["security"] == [{"ApiKey": []}]
                for status in ("400", "401", "503"):
                    [content] = operation["responses"][status]["content"].values()
                    assert content["schema"]["$ref"].endswith("/ErrorOut")
    assert len(ids) == len(set(ids))
    assert "create_fine_tuning_job" in ids


@pytest.mark.anyio
async def test_the_factory_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [tenant, _] = await prepare_database(build_settings(tmp_path))
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path))
    response = await AsgiClient(create_app_from_environment(), tenant).get("/v1/models")
    assert "absent" in [model["id"] for model in response.json()["data"]]


def test_stale_uploads_are_swept(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    _remove_stale_uploads(tmp_path)
    _remove_stale_uploads(tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
