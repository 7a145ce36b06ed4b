"""``make sdk``: write the OpenAPI document, the generated package, the sync client and the pages.

The only argument is the path of the openapi-python-client executable.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from codegen.generated_client import compute_stamp, generate
from codegen.openapi_document import build_openapi_document
from codegen.pages import PAGES
from codegen.paths import DOCS, OPENAPI_DOCUMENT, STAMP
from codegen.sync_client import SYNC_PACKAGE, render_sync_modules


def main(generator: Path) -> None:
    OPENAPI_DOCUMENT.write_text(build_openapi_document())
    generate(generator)
    STAMP.write_text(compute_stamp())
    shutil.rmtree(SYNC_PACKAGE, ignore_errors=True)
    SYNC_PACKAGE.mkdir()
    for path, text in render_sync_modules().items():
        path.write_text(text)
    for name, page in PAGES.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
