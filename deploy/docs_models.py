"""Page of the model families: what was proved on a tiny model of each, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.markdown import format_names, render_page, render_table, wrap
from storage.settings import REPOSITORY_ROOT

RESULT_FILE = REPOSITORY_ROOT / "benchmarks" / "results" / "models.json"


def render_models_page(file: Path = RESULT_FILE) -> str:
    """Render the outcome of the last ``make test-models``."""
    result = json.loads(file.read_text())
    families: list[dict[str, Any]] = list(result["figures"]["families"].values())
    refused = [
        [family["title"], f"`{task}`", reason] for family in families for task, reason in family["refused"].items()
    ]
    return render_page(
        "Models",
        wrap(
            "Any model of these families can be a base: add it to `models.toml`, run `luthierd models pull ID`, then "
            "`luthierd models check ID`, which tries it on this machine."
        ),
        wrap(
            "No model hub is needed to test a family. `make test-models` builds a tiny model with random weights of "
            "each architecture, with the special tokens and the chat template of the real one, and takes it through "
            "its life: train, stop, resume, save, load, merge, serve. A resumed run must equal the unbroken one bit "
            "for bit, a loaded and a merged model must give the trained one's numbers, and a prompt must get the same "
            f"answer in a batch as alone. {result['figures']['passed']} of "
            f"{result['figures']['passed'] + result['figures']['failed']} lives passed on {result['date']}."
        ),
        render_table(
            ["family", "class in transformers", "chat template", "task: updates"],
            [
                [
                    family["title"],
                    f"`{family['model_class']}`",
                    family["template"] or "none",
                    "; ".join(
                        f"`{task}`: {format_names(updates)}" for task, updates in family["updates"].items() if updates
                    ),
                ]
                for family in families
            ],
        ),
        wrap(
            'A template "written here" follows the family\'s published format, because no package carries the '
            "original. It is used in tests only: a pulled model brings its own."
        ),
        *(["## Refused", render_table(["family", "task", "reason"], refused)] if refused else []),
    )
