"""How tests call a command: in this process, with what it printed."""

import json

from selftaught.cli import main

TINY = [
    "--method", "simclr", "--set", "encoder_options.widths=[8]", "--set", "encoder_options.blocks=[1]",
    "--set", "encoder_options.strides=[2]", "--set", "encoder_options.stem=8", "--set", "recipe.batch=64",
]  # fmt: skip


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    code = main(list(words))
    out = capsys.readouterr()
    return code, out.out, out.err


def asked(capsys, *words: str):
    """Exit code and what `--json` printed."""
    code, out, _ = run(capsys, *words, "--json")
    return code, json.loads(out)
