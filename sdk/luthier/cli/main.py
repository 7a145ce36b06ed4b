"""``luthier``: the command's entry, its parser and what its errors look like."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from typing import Any

from luthier._sync.client import Luthier
from luthier.cli.commands import pair
from luthier.cli.completion import SHELLS, candidates
from luthier.cli.output import Output
from luthier.cli.table import COMMANDS, Command
from luthier.errors import APIStatusError, LuthierError

GROUPS = {
    "files": "Rows that jobs learn from, and what jobs write.",
    "jobs": "Fine-tuning jobs.",
    "models": "Base models and the project's own.",
}


def main(words: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else list(words)
    if words[:1] == ["__complete"]:
        print("\n".join(candidates(words[1:])))
        return
    args = parser().parse_args(words)
    try:
        args.run(args)
    except APIStatusError as error:
        facts = [f"{name} {value}" for name in ("code", "param", "request_id") if (value := getattr(error, name))]
        sys.exit(f"luthier: {error}" + (f" ({', '.join(facts)})" if facts else ""))
    except (LuthierError, OSError) as error:
        sys.exit(f"luthier: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> ArgumentParser:
    root = ArgumentParser(prog="luthier", description="Use a Luthier from a shell; `luthierd` runs one.")
    _common(root, default=None)
    top = root.add_subparsers(metavar="COMMAND", required=True)
    groups = {
        name: top.add_parser(name, help=help, description=help).add_subparsers(metavar="COMMAND", required=True)
        for name, help in GROUPS.items()
    }
    for command in COMMANDS:
        group, _, last = command.words.rpartition(" ")
        _add(groups[group] if group else top, last, command)
    shells = top.add_parser("completion", help="Print what a shell needs to complete this command.")
    shells.add_argument("shell", choices=sorted(SHELLS))
    shells.set_defaults(run=lambda args: print(SHELLS[args.shell]))
    return root


def _add(group: _SubParsersAction[ArgumentParser], word: str, command: Command) -> None:
    made = group.add_parser(word, help=command.help, description=command.help)
    _common(made, default=SUPPRESS)
    for option in command.options:
        settings = dict(option.settings)
        if settings.get("type") is pair:
            settings["type"] = _pair
        made.add_argument(option.name, help=option.help, **settings)
    made.set_defaults(run=_with_client(command))


def _common(made: ArgumentParser, default: Any) -> None:
    """Options that may stand before the command or after it."""
    made.add_argument("--json", action="store_true", default=default, help="JSON, an object a line, for scripts")
    made.add_argument("--base-url", default=default, metavar="URL", help="the server; LUTHIER_BASE_URL by default")


def _with_client(command: Command) -> Callable[[Namespace], None]:
    def run(args: Namespace) -> None:
        with Luthier(base_url=args.base_url) as client:
            command.run(client, args, Output(bool(args.json)))

    return run


def _pair(text: str) -> tuple[str, Any]:
    try:
        return pair(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE") from None


if __name__ == "__main__":
    main()
