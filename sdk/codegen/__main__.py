"""``make sdk``: the document, the generated package, the twins and the pages, all anew.

The one argument is openapi-python-client's executable.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from codegen.generated_client import generate, stamp
from codegen.openapi_document import document
from codegen.pages import PAGES
from codegen.paths import DOCS, DOCUMENT, STAMP
from codegen.sync_client import TWIN, twins


def main(generator: Path) -> None:
    DOCUMENT.write_text(document())
    generate(generator)
    STAMP.write_text(stamp())
    shutil.rmtree(TWIN, ignore_errors=True)
    TWIN.mkdir()
    for path, text in twins().items():
        path.write_text(text)
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
