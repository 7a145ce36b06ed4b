"""Generate ``luthier/_generated`` from ``openapi.json`` with openapi-python-client.

The generator runs in its own environment, because it needs an older typer than ``luthierd``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from codegen.paths import GENERATED, GENERATOR_CONFIG, GENERATOR_REQUIREMENTS, OPENAPI_DOCUMENT


def generate(generator: Path, target: Path = GENERATED) -> None:
    """Generate the package into ``target``, replacing it.

    ``generator`` is the executable, installed from ``generator.txt``.
    """
    with tempfile.TemporaryDirectory() as folder:
        package, document = Path(folder) / "package", Path(folder) / "openapi.json"
        document.write_text(json.dumps(patch_document(json.loads(OPENAPI_DOCUMENT.read_text()))))
        options = [
            "--meta",
            "none",
            "--config",
            str(GENERATOR_CONFIG),
            "--output-path",
            str(package),
            "--fail-on-warning",
        ]
        subprocess.run([generator, "generate", "--path", str(document), *options], check=True)
        ruff = [sys.executable, "-m", "ruff"]
        subprocess.run(
            [*ruff, "check", "--isolated", "--quiet", "--fix-only", "--select=I,F401,F811", package], check=True
        )
        subprocess.run([*ruff, "format", "--isolated", "--quiet", "--line-length=120", package], check=True)
        # The generated file would import every model, but a program needs only a few.
        (package / "models" / "__init__.py").write_text('"""Request and response models, one per module."""\n')
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(package, target)


def patch_document(node: Any) -> Any:
    """Return the document with a workaround for a bug of the generator.

    The generator mishandles a ``const`` among alternatives: its code for ``3 or "auto"`` rejects
    the 3. An ``enum`` with one value works.
    """
    if isinstance(node, list):
        return [patch_document(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: patch_document(value) for name, value in node.items()}
    for item in node.get("anyOf", []):
        if "const" in item:
            item["enum"] = [item.pop("const")]
    return node


def compute_stamp() -> str:
    """Return hashes of the generator's inputs and of the package.

    The result equals the committed stamp as long as neither has changed.
    """
    modules = sorted(GENERATED.rglob("*.py"))
    hashes = {
        "from": _hash_files([OPENAPI_DOCUMENT, GENERATOR_CONFIG, GENERATOR_REQUIREMENTS]),
        "package": _hash_files(modules),
    }
    return json.dumps(hashes, indent=1) + "\n"


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(OPENAPI_DOCUMENT.parent).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
