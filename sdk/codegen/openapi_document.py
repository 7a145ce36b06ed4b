"""The server's OpenAPI document as a file, so that the client is made without a server."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from api.app import create_app
from storage.settings import Settings


def build_openapi_document() -> str:
    """Today's, from the code."""
    with tempfile.TemporaryDirectory() as home:
        # Nothing of the settings shows in it.
        return json.dumps(create_app(Settings(home=Path(home))).openapi(), indent=1, ensure_ascii=False) + "\n"
