"""Tests for the environments that processes get."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import settings
from storage.settings import Settings, build_child_environment, build_training_environment

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path)


def set_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: bool) -> None:
    path = tmp_path / "driver-version"
    if present:
        path.touch()
    monkeypatch.setattr(settings, "_NVIDIA_DRIVER", path)


def get_allocator_variables(variables: dict[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in ALLOCATOR_VARIABLES if name in variables}


@pytest.mark.parametrize("name", ALLOCATOR_VARIABLES)
@pytest.mark.parametrize("has_driver", [False, True])
def test_an_operators_allocator_settings_reach_every_process(
    environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, has_driver: bool
) -> None:
    set_driver(monkeypatch, tmp_path, has_driver)
    monkeypatch.setenv(name, "max_split_size_mb:128")
    for build in (build_training_environment, build_child_environment):
        assert get_allocator_variables(build(environment)) == {name: "max_split_size_mb:128"}


@pytest.mark.parametrize(
    ("has_driver", "expected"), [(True, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}), (False, {})]
)
def test_training_on_a_machine_with_an_nvidia_driver_uses_expandable_segments(
    environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_driver: bool, expected: dict[str, str]
) -> None:
    set_driver(monkeypatch, tmp_path, has_driver)
    assert get_allocator_variables(build_training_environment(environment)) == expected


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"])
def test_training_sees_the_gpus_that_the_operator_chose(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert build_training_environment(environment)[name] == "1"


def test_training_gets_no_url_and_no_secret(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_INFERENCE_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    variables = build_training_environment(Settings(home=environment.home))
    assert "secret" not in variables.values()
    assert not [name for name in variables if name.startswith("LUTHIER_")]
