"""Base models on disk: lock files, verification and rejection of executable files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage import hub
from storage.errors import ModelNotPulled
from storage.registry import LOCK_FILE, Registry
from storage.settings import REPOSITORY_ROOT

SOURCE = {"repository": "org/name", "commit": "a" * 40}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "models" / "m"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def test_a_locked_model_is_checked_file_by_file(model: Path) -> None:
    hub.write_lock_file(model, SOURCE)
    assert hub.verify(model) == 2
    (model / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(hub.ChangedModel, match=r"model\.safetensors"):
        hub.verify(model)


@pytest.mark.parametrize("change", ["added", "removed"])
def test_an_added_or_removed_file_is_a_change(model: Path, change: str) -> None:
    hub.write_lock_file(model, SOURCE)
    if change == "added":
        (model / "extra.json").write_text("{}")
    else:
        (model / "config.json").unlink()
    with pytest.raises(hub.ChangedModel):
        hub.verify(model)


@pytest.mark.parametrize("name", ["modeling_x.py", "pytorch_model.bin", "weights.pth", "state.pkl", "lib.so"])
def test_executable_files_are_rejected(model: Path, name: str) -> None:
    (model / name).write_bytes(b"x")
    with pytest.raises(hub.UnsafeModel, match=name):
        hub.verify(model)


def test_an_auto_map_is_refused(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(hub.UnsafeModel, match="auto_map"):
        hub.scan(model)


def test_a_link_out_of_the_directory_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (model / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(hub.UnsafeModel, match="link"):
        hub.scan(model)


def test_a_hub_model_is_installed_once_it_is_locked(tmp_path: Path, model: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[m]\nhub = "org/name"\ntasks = ["chat"]\nparameters = 1\ncontext = 8\nlicense = "x"\naliases = ["gpt-x"]\n'
    )
    registry = Registry([tmp_path / "models.toml"], tmp_path / "models")
    entry = registry.get("gpt-x")
    assert entry is not None
    with pytest.raises(ModelNotPulled, match="luthierd models pull m"):
        entry.require_location()
    hub.write_lock_file(model, SOURCE)
    locked_entry = registry.get("m")
    assert locked_entry is not None
    assert locked_entry.require_location() == model
    assert (model / LOCK_FILE).exists()


def test_an_added_entry_is_listed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    table = '[{0}]\npath = "."\ntasks = ["chat"]\nparameters = 1\ncontext = 8\nlicense = "x"\n'
    file.write_text(table.format("one"))
    registry = Registry([file, tmp_path / "none.toml"], tmp_path)
    assert [entry.id for entry in registry.list()] == ["one"]
    file.write_text(table.format("one") + table.format("two"))
    assert [entry.id for entry in registry.list()] == ["one", "two"]


def test_the_shipped_registry_is_valid() -> None:
    registry = Registry([REPOSITORY_ROOT / "models.toml"], Path("/nowhere"))
    entries = {entry.id: entry for entry in registry.list()}
    assert {"starter", "minilm-l6", "qwen3-0.6b", "smollm2-135m", "llama-3.2-1b"} <= set(entries)
    for name in ("starter", "minilm-l6"):
        hub.scan(entries[name].require_location())
    aliases = [alias for entry in entries.values() for alias in entry.aliases]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & set(entries)
