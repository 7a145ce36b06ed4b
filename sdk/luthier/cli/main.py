"""Entry point of the ``luthier`` command, its argument parser and its error output."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from typing import Any

from luthier._sync.client import Luthier
from luthier.cli.commands import parse_pair
from luthier.cli.completion import SHELLS, get_completions
from luthier.cli.output import Output
from luthier.cli.table import COMMANDS, Command
from luthier.errors import APIStatusError, LuthierError

GROUP_HELP = {
    "files": "Training rows, and results of jobs.",
    "jobs": "Fine-tuning jobs.",
    "models": "Base models and the project's fine-tuned models.",
}


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["__complete"]:
        print("\n".join(get_completions(argv[1:])))
        return
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except APIStatusError as error:
        details = [f"{name} {value}" for name in ("code", "param", "request_id") if (value := getattr(error, name))]
        sys.exit(f"luthier: {error}" + (f" ({', '.join(details)})" if details else ""))
    except (LuthierError, OSError) as error:
        sys.exit(f"luthier: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def build_parser() -> ArgumentParser:
    root = ArgumentParser(prog="luthier", description="Use a Luthier server from the shell. `luthierd` runs a server.")
    _add_common_options(root, default=None)
    top = root.add_subparsers(metavar="COMMAND", required=True)
    groups = {
        name: top.add_parser(name, help=help, description=help).add_subparsers(metavar="COMMAND", required=True)
        for name, help in GROUP_HELP.items()
    }
    for command in COMMANDS:
        group, _, last = command.name.rpartition(" ")
        _add_command(groups[group] if group else top, last, command)
    shells = top.add_parser("completion", help="Print the completion script of a shell.")
    shells.add_argument("shell", choices=sorted(SHELLS))
    shells.set_defaults(run=lambda args: print(SHELLS[args.shell]))
    return root


def _add_command(group: _SubParsersAction[ArgumentParser], name: str, command: Command) -> None:
    parser = group.add_parser(name, help=command.help, description=command.help)
    _add_common_options(parser, default=SUPPRESS)
    for option in command.options:
        settings = dict(option.settings)
        if settings.get("type") is parse_pair:
            settings["type"] = _parse_pair_argument
        parser.add_argument(option.name, help=option.help, **settings)
    parser.set_defaults(run=_bind_client(command))


def _add_common_options(command_parser: ArgumentParser, default: Any) -> None:
    """Add options that are allowed before and after the command."""
    command_parser.add_argument(
        "--json", action="store_true", default=default, help="print one JSON object per line, for scripts"
    )
    command_parser.add_argument(
        "--base-url", default=default, metavar="URL", help="address of the server (default: LUTHIER_BASE_URL)"
    )


def _bind_client(command: Command) -> Callable[[Namespace], None]:
    def run(args: Namespace) -> None:
        with Luthier(base_url=args.base_url) as client:
            command.run(client, args, Output(bool(args.json)))

    return run


def _parse_pair_argument(text: str) -> tuple[str, Any]:
    try:
        return parse_pair(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as n_epochs=3") from None


if __name__ == "__main__":
    main()
