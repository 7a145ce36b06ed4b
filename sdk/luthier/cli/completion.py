"""Shell completion.

The shell calls ``luthier __complete WORD…`` for candidates of the last word.
"""

from __future__ import annotations

from collections.abc import Sequence

from luthier.cli.table import COMMANDS

SHELLS = {
    "bash": """_luthier() {
  mapfile -t COMPREPLY < <(luthier __complete "${COMP_WORDS[@]:1:COMP_CWORD}")
  [[ ${#COMPREPLY[@]} -eq 1 && -z ${COMPREPLY[0]} ]] && COMPREPLY=()
}
complete -o default -F _luthier luthier""",
    "zsh": """_luthier() {
  local -a found=("${(@f)$(luthier __complete "${(@)words[2,CURRENT]}")}")
  [[ -n ${found[1]} ]] && compadd -- "${found[@]}" || _files
}
compdef _luthier luthier""",
    "fish": "complete -c luthier -a '(luthier __complete (commandline -opc)[2..] (commandline -ct))'",
}
"""Shell -> script that its startup file evaluates.

If there are no candidates, the shell completes file names.
"""

COMMON_OPTIONS = ("--help", "--json", "--base-url")


def get_completions(words: Sequence[str]) -> list[str]:
    """Return the candidates for the last of ``words``."""
    *previous, last = words or [""]
    return [word for word in _list_candidates(previous) if word.startswith(last) and (last or not word.startswith("-"))]


def _list_candidates(previous_words: Sequence[str]) -> list[str]:
    for command in COMMANDS:
        names = command.name.split()
        if list(previous_words[: len(names)]) == names:
            for option in command.options:
                if previous_words[-1] == option.name:
                    return list(option.settings.get("choices", []))
            return [*(option.name for option in command.options if option.name.startswith("-")), *COMMON_OPTIONS]
    depth = len(previous_words)
    paths = [*(command.name.split() for command in COMMANDS), ["completion"]]
    next_words = {path[depth] for path in paths if len(path) > depth and path[:depth] == list(previous_words)}
    return sorted(SHELLS) if list(previous_words) == ["completion"] else sorted(next_words)
