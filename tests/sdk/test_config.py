"""Resolution of the server address and API key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier import ConfigurationError, Luthier
from luthier._config import resolve_config


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path))
    monkeypatch.delenv("LUTHIER_BASE_URL", raising=False)
    monkeypatch.delenv("LUTHIER_API_KEY", raising=False)
    return tmp_path


def write_credentials(home: Path, **credentials: str) -> None:
    (home / "credentials").write_text(json.dumps(credentials))


def test_arguments_come_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_BASE_URL", "http://b/v1")
    monkeypatch.setenv("LUTHIER_API_KEY", "sk-b")
    write_credentials(home, base_url="http://c/v1", api_key="sk-c")
    config = resolve_config("sk-a", "http://a/v1/")
    assert (config.server_url, config.api_key) == ("http://a", "sk-a")
    config = resolve_config(None, None)
    assert (config.server_url, config.api_key) == ("http://b", "sk-b")


def test_the_file_comes_last(home: Path) -> None:
    write_credentials(home, base_url="http://c:1/v1", api_key="sk-c")
    assert resolve_config(None, None).api_key == "sk-c"
    assert resolve_config(None, "http://c:1").api_key == "sk-c"


def test_the_files_key_goes_to_no_other_server(home: Path) -> None:
    write_credentials(home, base_url="http://c:1/v1", api_key="sk-c")
    with pytest.raises(ConfigurationError, match="LUTHIER_API_KEY"):
        resolve_config(None, "http://elsewhere/v1")


def test_no_configuration(home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"LUTHIER_BASE_URL.*credentials"):
        Luthier()
    (home / "credentials").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Luthier()


def test_a_key_is_in_no_repr() -> None:
    client = Luthier(base_url="http://a/v1", api_key="sk-secret")
    assert "sk-secret" not in repr(resolve_config("sk-secret", "http://a")) + repr(client) + repr(client.raw)
    client.close()
