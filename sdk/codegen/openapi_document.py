"""OpenAPI document of the server, written to a file so that code generation needs no running
server.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from api.app import create_app
from storage.settings import Settings


def build_openapi_document() -> str:
    """Build the OpenAPI document from the current code."""
    with tempfile.TemporaryDirectory() as home:
        # The document does not depend on the settings.
        return json.dumps(create_app(Settings(home=Path(home))).openapi(), indent=1, ensure_ascii=False) + "\n"
