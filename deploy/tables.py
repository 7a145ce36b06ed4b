"""``make docs``: the tables in ``docs/`` that the code itself knows. A test fails where they are not up to date."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.settings import REPOSITORY, Settings
from training.errors import RUN_CODES
from training.tasks import TASKS

DOCS = REPOSITORY / "docs"


def settings_page() -> str:
    rows = [
        f"| `LUTHIER_{name.upper()}` | {_default(field)} | {_text(field.description)} |"
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "Each is an environment variable, read by `storage/settings.py` alone. An empty URL means the embedded part.",
        ["variable", "default", "meaning"],
        rows,
    )


def tasks_page() -> str:
    rows = [f"| `{task.name}` | {task.title} | {_fields(task.row)} |" for task in TASKS.values()]
    return _page(
        "Tasks",
        "What a job's `task` can be. A row is one object of a JSONL, JSON or CSV file; `columns` renames its fields.",
        ["task", "what it learns", "fields of a row"],
        rows,
    )


def codes_page() -> str:
    rows = [f"| `{code}` | {advice} |" for code, advice in RUN_CODES.items()]
    return _page("Run codes", "A failed job's `error.code` is one of these.", ["code", "what to do"], rows)


PAGES = {"settings.md": settings_page, "tasks.md": tasks_page, "run-codes.md": codes_page}


def write(directory: Path = DOCS) -> None:
    for name, page in PAGES.items():
        (directory / name).write_text(page())


def _page(title: str, text: str, columns: list[str], rows: list[str]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([f"# {title}", "", "Written by `make docs` from the code.", "", text, "", *head, *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.luthier`"
    shown = getattr(field.default, "get_secret_value", lambda: field.default)()
    if isinstance(shown, Path):
        shown = shown.relative_to(REPOSITORY)
    return f"`{shown}`" if shown not in ("", None) else "empty"


def _text(description: str | None) -> str:
    assert description, "every setting says what it means"
    return re.sub(r"\s+", " ", description.replace("``", "`")).replace("|", "\\|")


def _fields(row: type[BaseModel]) -> str:
    return ", ".join(
        f"`{field.alias or name}`{'' if field.is_required() else ' (optional)'}"
        for name, field in row.model_fields.items()
    )


if __name__ == "__main__":
    write()
