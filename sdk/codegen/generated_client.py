"""``luthier/_generated`` from ``openapi.json``, by openapi-python-client in an environment of its own.

Of its own, because the generator needs an older typer than ``luthierd``.
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
    """Write the package anew. ``generator``: the executable, installed from ``generator.txt``."""
    with tempfile.TemporaryDirectory() as folder:
        made, read = Path(folder) / "made", Path(folder) / "openapi.json"
        read.write_text(json.dumps(patch_document(json.loads(OPENAPI_DOCUMENT.read_text()))))
        options = ["--meta", "none", "--config", str(GENERATOR_CONFIG), "--output-path", str(made), "--fail-on-warning"]
        subprocess.run([generator, "generate", "--path", str(read), *options], check=True)
        ruff = [sys.executable, "-m", "ruff"]
        subprocess.run(
            [*ruff, "check", "--isolated", "--quiet", "--fix-only", "--select=I,F401,F811", made], check=True
        )
        subprocess.run([*ruff, "format", "--isolated", "--quiet", "--line-length=120", made], check=True)
        # It would load every model, of which a program needs a few.
        (made / "models" / "__init__.py").write_text('"""What the server takes and answers, a module each."""\n')
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)


def patch_document(node: Any) -> Any:
    """The document without what the generator gets wrong.

    A ``const`` among alternatives: its code for ``3 or "auto"`` refuses the 3. The same as an ``enum`` of one is right.
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
    """What the package was made from, and what it is: equal to the committed one while both are as they were."""
    made = sorted(GENERATED.rglob("*.py"))
    told = {
        "from": _hash_files([OPENAPI_DOCUMENT, GENERATOR_CONFIG, GENERATOR_REQUIREMENTS]),
        "package": _hash_files(made),
    }
    return json.dumps(told, indent=1) + "\n"


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(OPENAPI_DOCUMENT.parent).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
