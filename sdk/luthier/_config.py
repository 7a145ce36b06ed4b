"""Server address and API key, from arguments, the environment, or the file that ``luthierd``
writes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from luthier.errors import ConfigurationError


@dataclass(frozen=True)
class Config:
    """Address and key of one server."""

    server_url: str
    """The server's address without ``/v1``."""
    api_key: str = field(repr=False)


def resolve_config(api_key: str | None, base_url: str | None) -> Config:
    """Return the address and key to use. ``base_url`` may end in ``/v1``.

    Raises ``ConfigurationError`` if one of the two is missing.
    """
    key = api_key or os.environ.get("LUTHIER_API_KEY")
    root = _strip_version(base_url or os.environ.get("LUTHIER_BASE_URL") or "")
    file = Path(os.environ.get("LUTHIER_HOME") or "~/.luthier").expanduser() / "credentials"
    if not (key and root):
        credentials = _read_credentials(file)
        file_root = _strip_version(credentials.get("base_url", ""))
        # The file's key is sent only to the server that it belongs to.
        key = key or (credentials.get("api_key") if root in ("", file_root) else None)
        root = root or file_root
    for name, value in (("base_url", root), ("api_key", key)):
        if not value:
            raise ConfigurationError(
                f"{name} is missing. Pass it, set LUTHIER_{name.upper()}, or run `luthierd up`, which writes {file}."
            )
    return Config(root, key or "")


def _strip_version(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1")


def _read_credentials(file: Path) -> dict[str, str]:
    try:
        credentials = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}. Fix or delete it, then run `luthierd up` to write it again."
        ) from None
    if not isinstance(credentials, dict):
        return {}
    return {name: value for name, value in credentials.items() if isinstance(value, str)}
