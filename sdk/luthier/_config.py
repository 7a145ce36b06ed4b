"""Where the server is and whose key to show: arguments, then the environment, then the file that ``luthierd`` wrote."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from luthier.errors import ConfigurationError


@dataclass(frozen=True)
class Config:
    server_url: str
    """The server's address without ``/v1``."""
    api_key: str = field(repr=False)


def resolve_config(api_key: str | None, base_url: str | None) -> Config:
    """``base_url`` with or without its ``/v1``. Raises ``ConfigurationError`` where one of the two is nowhere."""
    key = api_key or os.environ.get("LUTHIER_API_KEY")
    root = _strip_version(base_url or os.environ.get("LUTHIER_BASE_URL") or "")
    file = Path(os.environ.get("LUTHIER_HOME") or "~/.luthier").expanduser() / "credentials"
    if not (key and root):
        held = _read_credentials(file)
        held_root = _strip_version(held.get("base_url", ""))
        # The file's key goes only to the server that it was made for.
        key = key or (held.get("api_key") if root in ("", held_root) else None)
        root = root or held_root
    for name, value in (("base_url", root), ("api_key", key)):
        if not value:
            raise ConfigurationError(
                f"No {name}: pass it, set LUTHIER_{name.upper()}, or run `luthierd up`, which writes {file}."
            )
    return Config(root, key or "")


def _strip_version(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1")


def _read_credentials(file: Path) -> dict[str, str]:
    try:
        held = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    return {name: value for name, value in held.items() if isinstance(value, str)} if isinstance(held, dict) else {}
