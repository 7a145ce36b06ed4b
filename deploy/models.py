"""``luthierd models``: list, download and check base models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage import hub
from storage.registry import BaseModelEntry
from storage.settings import Settings
from training.models.support import check_base
from training.tasks import TASKS

app = typer.Typer(help="List, download and check base models.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Directory of the stack's data.")]


def _load_settings(home: Path | None) -> Settings:
    return Settings(home=home) if home else Settings()


def _get_entry(settings: Settings, name: str) -> BaseModelEntry:
    entry = settings.create_registry().get(name)
    if entry is None:
        raise typer.BadParameter(f"no models.toml contains '{name}'; see 'luthierd models list'")
    return entry


@app.command("list")
def list_(home: Home = None) -> None:
    """List the base models of the registry with their tasks and aliases."""
    table = Table("id", "parameters", "context", "tasks", "installed", "aliases")
    for column in table.columns:
        column.no_wrap = True
    for entry in _load_settings(home).create_registry().list():
        size, installed = f"{entry.parameters / 1e6:,.1f} M", "yes" if entry.location else "no"
        table.add_row(entry.id, size, f"{entry.context:,}", "\n".join(entry.tasks), installed, "\n".join(entry.aliases))
    console = Console()
    console.print(table)
    console.print("Download a model that is not installed with: luthierd models pull ID")


@app.command()
def pull(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    home: Home = None,
) -> None:
    """Download a model from its hub, scan it, and lock its commit and the hash of every file."""
    settings, console = _load_settings(home), Console()
    entry = _get_entry(settings, model)
    if entry.hub is None:
        console.print(f"'{entry.id}' is part of this installation; there is nothing to download")
        return
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    try:
        directory = hub.pull(entry, settings.models_dir, revision)
    except (hub.HubUnavailable, hub.UnsafeModel) as error:
        console.print(f"[red]✗[/] {entry.hub} was not pulled: {error}")
        raise typer.Exit(1) from error
    console.print(f"[green]✓[/] {entry.id} is at {directory}")
    if _print_unsupported_tasks(console, entry, directory) == len(entry.tasks):
        raise typer.Exit(1)


@app.command()
def check(
    model: Annotated[str | None, typer.Argument(help="Model to check; all installed models by default.")] = None,
    home: Home = None,
) -> None:
    """Check that models contain no executable code, are unchanged, and fit their tasks."""
    settings, console, num_failed = _load_settings(home), Console(), 0
    entries = [_get_entry(settings, model)] if model else settings.create_registry().list()
    for entry in entries:
        if entry.location is None:
            console.print(f"· {entry.id}: not installed")
            continue
        try:
            num_files = hub.verify(entry.location)
            num_unsupported = _print_unsupported_tasks(console, entry, entry.location)
            num_failed += bool(num_unsupported)
            if not num_unsupported:
                console.print(f"[green]✓[/] {entry.id}: {num_files} files")
        except (hub.UnsafeModel, hub.ChangedModel) as error:
            num_failed += 1
            console.print(f"[red]✗[/] {entry.id}: {error}")
    raise typer.Exit(1 if num_failed else 0)


def _print_unsupported_tasks(console: Console, entry: BaseModelEntry, directory: Path) -> int:
    """Print why the model cannot be used for tasks of its entry, and return their number."""
    num_unsupported = 0
    for name in entry.tasks:
        reasons = check_base(directory, TASKS[name]) if name in TASKS else ["This version has no such task."]
        num_unsupported += bool(reasons)
        for reason in reasons:
            console.print(f"[red]✗[/] {entry.id} cannot be used for {name}: {reason}", soft_wrap=True)
    return num_unsupported
