"""Dockerfile and compose file.

The tests run no Docker; they compare commands, settings and paths with the code.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from api.app import create_app
from deploy.luthierd import app
from inference.server import create_app as create_engine
from storage.settings import REPOSITORY_ROOT, Settings

COMPOSE = REPOSITORY_ROOT / "deploy" / "compose.yml"
DOCKERFILE = (REPOSITORY_ROOT / "Dockerfile").read_text()
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
SETTINGS = {f"LUTHIER_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded["services"]


def filter_luthier_services(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"] == "luthier"}


def test_the_stack_is_complete(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "redis", "migrate", "api", "inference", "worker"}
    assert services["worker"]["deploy"]["replicas"] == 2
    assert services["api"]["environment"]["LUTHIER_API_PROCESSES"] == "2"


def test_every_command_is_one_of_luthierd(services: dict[str, Any]) -> None:
    for name, service in filter_luthier_services(services).items():
        assert service["command"][0] in COMMANDS, name
    assert 'ENTRYPOINT ["luthierd"]' in DOCKERFILE
    assert re.search(r'CMD \["(\w+)"\]', DOCKERFILE).group(1) in COMMANDS  # type: ignore[union-attr]
    scripts = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"luthierd": "deploy.luthierd:app"}


def test_every_setting_exists(services: dict[str, Any]) -> None:
    named = {name for service in filter_luthier_services(services).values() for name in service["environment"]}
    named |= set(re.findall(r"LUTHIER_\w+", DOCKERFILE))
    assert {name for name in named if name.startswith("LUTHIER_")} <= SETTINGS
    four = {"LUTHIER_DATABASE_URL", "LUTHIER_BLOB_URL", "LUTHIER_REDIS_URL", "LUTHIER_INFERENCE_URL"}
    assert all(four <= set(service["environment"]) for service in filter_luthier_services(services).values())


def test_ports_and_hosts_agree(services: dict[str, Any]) -> None:
    port = str(Settings.model_fields["port"].default)
    assert f"EXPOSE {port}" in DOCKERFILE
    assert f"LUTHIER_PORT={port}" in DOCKERFILE
    assert services["api"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    engine = services["inference"]["environment"]
    assert engine["LUTHIER_INFERENCE_BIND"].rpartition(":")[2] == engine["LUTHIER_INFERENCE_URL"].rpartition(":")[2]
    for url in (engine["LUTHIER_DATABASE_URL"], engine["LUTHIER_REDIS_URL"], engine["LUTHIER_INFERENCE_URL"]):
        host = re.search(r"(?:@|//)(\w+)[:/]", url.replace("${POSTGRES_PASSWORD}", "x").partition("@")[2] or url)
        name = host.group(1) if host else re.split(r"[:/]", url.rpartition("@")[2])[0]
        assert name in services, url


def test_health_paths_are_routes(services: dict[str, Any], tmp_path: Path) -> None:
    config = Settings(home=tmp_path)
    engine = {getattr(route, "path", "") for route in create_engine(config).routes}
    for name, paths in {"api": set(create_app(config).openapi()["paths"]), "inference": engine}.items():
        command = " ".join(services[name]["healthcheck"]["test"])
        match = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", command)
        assert match is not None
        assert match.group(2) in paths
        port = {"api": "8000", "inference": "8100"}[name]
        assert match.group(1) == port


def test_the_image_contains_every_package_and_file() -> None:
    copied = set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.M))
    setuptools = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = setuptools["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} | {"models"} == copied
    for name in copied | {"constraints.txt", "models.toml", "README.md"}:
        assert (REPOSITORY_ROOT / name).exists(), name


def test_required_variables_are_documented_at_the_top() -> None:
    text = COMPOSE.read_text()
    required = set(re.findall(r"\$\{(\w+)\}", text))
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert all(name in comments for name in required), required
