"""``luthierd``: run Luthier, whole or in parts, and look after its keys and base models."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from deploy import doctor as doctors
from deploy import keys, launcher, models
from storage import logs
from storage import migrate as migrations
from storage.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")

Home = Annotated[Path | None, typer.Option(help="Where the stack keeps everything; ~/.luthier by default.")]


def _load_settings(**overrides: object) -> Settings:
    logs.configure()
    return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]


@app.command()
def up(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address the API listens on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="8000 by default; 0 takes a free one.")] = None,
) -> None:
    """Start everything on this machine and stay until Ctrl-C."""
    console = Console()
    try:
        asyncio.run(launcher.up(_load_settings(home=home, host=host, port=port), console))
    except launcher.LaunchError as error:
        console.print(f"[red]✗[/] {error}")
        raise typer.Exit(1) from None


@app.command()
def api() -> None:
    """Run the HTTP API alone."""
    _exec_service("api")


@app.command()
def worker() -> None:
    """Run a worker alone."""
    _exec_service("worker")


@app.command()
def inference() -> None:
    """Run the inference engine alone."""
    _exec_service("inference")


def _exec_service(service: str) -> NoReturn:
    # Each part loads only what it needs: the API no torch, this command none of them.
    os.execv(sys.executable, [sys.executable, "-m", launcher.SERVICE_MODULES[service]])


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to this version's tables."""
    settings = _load_settings(home=home)
    asyncio.run(migrations.upgrade(settings.database_url))
    Console().print("[green]✓[/] the database is up to date")


@app.command()
def doctor(home: Home = None) -> None:
    """Look at this machine, the settings and the four URLs, and say what is missing."""
    raise typer.Exit(asyncio.run(doctors.run_checks(_load_settings(home=home), Console())))


if __name__ == "__main__":
    app()
