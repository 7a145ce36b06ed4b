"""``luthierd models``: what base models there are, fetching them, checking them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage import hub
from storage.registry import BaseModelEntry
from storage.settings import Settings

app = typer.Typer(help="List, fetch and check base models.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Where the stack keeps everything.")]


def _load_settings(home: Path | None) -> Settings:
    return Settings(home=home) if home else Settings()


def _get_entry(settings: Settings, name: str) -> BaseModelEntry:
    entry = settings.create_registry().get(name)
    if entry is None:
        raise typer.BadParameter(f"'{name}' is in no models.toml; see 'luthierd models list'")
    return entry


@app.command("list")
def list_(home: Home = None) -> None:
    """Every base model of the registry, with its tasks, aliases and whether it is here."""
    table = Table("id", "parameters", "context", "tasks", "here", "aliases")
    for column in table.columns:
        column.no_wrap = True
    for entry in _load_settings(home).create_registry().list():
        size, here = f"{entry.parameters / 1e6:,.1f} M", "yes" if entry.location else "no"
        table.add_row(entry.id, size, f"{entry.context:,}", "\n".join(entry.tasks), here, "\n".join(entry.aliases))
    console = Console()
    console.print(table)
    console.print("Fetch one that is not here with: luthierd models pull ID")


@app.command()
def pull(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    home: Home = None,
) -> None:
    """Fetch a model from its hub, scan it, and lock its commit and the hash of every file."""
    settings, console = _load_settings(home), Console()
    entry = _get_entry(settings, model)
    if entry.hub is None:
        console.print(f"'{entry.id}' comes with this installation; there is nothing to pull")
        return
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    try:
        directory = hub.pull(entry, settings.models_dir, revision)
    except (hub.HubUnavailable, hub.UnsafeModel) as error:
        console.print(f"[red]✗[/] {entry.hub} was not pulled: {error}")
        raise typer.Exit(1) from error
    console.print(f"[green]✓[/] {entry.id} is at {directory}")


@app.command()
def check(
    model: Annotated[str | None, typer.Argument(help="One model; all that are here by default.")] = None,
    home: Home = None,
) -> None:
    """See that models hold nothing that could run, and are the files that were pulled."""
    settings, console, bad = _load_settings(home), Console(), 0
    entries = [_get_entry(settings, model)] if model else settings.create_registry().list()
    for entry in entries:
        if entry.location is None:
            console.print(f"· {entry.id}: not here")
            continue
        try:
            console.print(f"[green]✓[/] {entry.id}: {hub.verify(entry.location)} files")
        except (hub.UnsafeModel, hub.ChangedModel) as error:
            bad += 1
            console.print(f"[red]✗[/] {entry.id}: {error}")
    raise typer.Exit(1 if bad else 0)
