"""``luthierd``: run the Luthier stack or single services, and manage API keys and base models."""

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

Home = Annotated[Path | None, typer.Option(help="Directory of the stack's data; ~/.luthier by default.")]


def _load_settings(**overrides: object) -> Settings:
    logs.configure()
    return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]


@app.command()
def up(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address of the API; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; 8000 by default, 0 selects a free port.")] = None,
) -> None:
    """Start the complete stack on this machine and run it until Ctrl-C."""
    console = Console()
    try:
        asyncio.run(launcher.up(_load_settings(home=home, host=host, port=port), console))
    except launcher.LaunchError as error:
        console.print(f"[red]✗[/] {error}")
        raise typer.Exit(1) from None


@app.command()
def api() -> None:
    """Run only the HTTP API."""
    _exec_service("api")


@app.command()
def worker() -> None:
    """Run only a worker."""
    _exec_service("worker")


@app.command()
def inference() -> None:
    """Run only the inference engine."""
    _exec_service("inference")


def _exec_service(service: str) -> NoReturn:
    # A new process imports only what its service needs; the API, for example, does not import
    # torch.
    os.execv(sys.executable, [sys.executable, "-m", launcher.SERVICE_MODULES[service]])


@app.command()
def migrate(home: Home = None) -> None:
    """Migrate the database to this version's schema."""
    settings = _load_settings(home=home)
    asyncio.run(migrations.upgrade(settings.database_url))
    Console().print("[green]✓[/] the database is up to date")


@app.command()
def doctor(home: Home = None) -> None:
    """Check this machine, the settings and the four URLs, and report what is missing."""
    raise typer.Exit(asyncio.run(doctors.run_checks(_load_settings(home=home), Console())))


if __name__ == "__main__":
    app()
