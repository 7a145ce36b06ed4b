"""Paths of the client package and its inputs."""

from __future__ import annotations

from pathlib import Path

SDK = Path(__file__).resolve().parent.parent
REPOSITORY = SDK.parent
PACKAGE = SDK / "luthier"
OPENAPI_DOCUMENT = SDK / "openapi.json"
GENERATED = PACKAGE / "_generated"
GENERATOR_CONFIG = SDK / "generator.yaml"
GENERATOR_REQUIREMENTS = SDK / "generator.txt"
STAMP = GENERATED / "stamp.json"
DOCS = REPOSITORY / "docs"
