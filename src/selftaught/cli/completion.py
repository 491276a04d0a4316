"""`selftaught completion bash|zsh|fish`"""

import importlib
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from . import COMMANDS
from .arguments import Common, parse

BASH = """_selftaught() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$current")); return; fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ "${{current#-}}" = "$current" ]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _selftaught selftaught
"""


@dataclass(kw_only=True)
class Arguments(Common):
    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional] = "bash"


def run(argv: list[str]) -> None:
    arguments = parse(
        Arguments, argv, "completion", "Prints a completion script:  source <(selftaught completion bash)"
    )
    print(script(arguments.shell))


def flags(command: str) -> list[str]:
    """The flags of a command, from its Arguments."""
    import dataclasses

    kind = importlib.import_module(f"{__package__}.{command}").Arguments
    positional = {f.name for f in dataclasses.fields(kind) if "Positional" in str(f.type)}
    return [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(kind) if f.name not in positional]


def script(shell: str) -> str:
    """The completion script of a shell."""
    if shell == "fish":
        lines = [
            f"complete -c selftaught -n __fish_use_subcommand -a {name} -d '{text}'" for name, text in COMMANDS.items()
        ]
        for name in COMMANDS:
            lines += [
                f"complete -c selftaught -n '__fish_seen_subcommand_from {name}' -l {flag[2:]}" for flag in flags(name)
            ]
        return "\n".join(lines)
    cases = "\n".join(
        f'    {name}) COMPREPLY=($(compgen -W "{" ".join(flags(name))}" -- "$current")) ;;' for name in COMMANDS
    )
    text = BASH.format(commands=" ".join(COMMANDS), cases=cases)
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text
