"""The command line: `selftaught COMMAND ...`.  This file imports nothing heavy, so that --help answers at once."""

import importlib
import os
import sys

COMMANDS = {
    "demo": "the whole story on data that come with the dependencies, no network",
    "look": "what DATA is, what is wrong with it, what to run and how long that takes here",
    "pretrain": "learn a representation from DATA without labels",
    "compare": "which pretext task for DATA: each for the same time, chosen with few labels",
    "evaluate": "did it help?  probes, label curve, controls, verdict",
    "finetune": "adapt a pretrained encoder with the labels there are",
    "predict": "labels and calibrated confidences for new data",
    "generate": "what a causal language model writes behind a prompt",
    "embed": "representations of DATA as Parquet, in shards, resumable",
    "search": "the rows of DATA that are nearest to a file, a row or words",
    "cluster": "DATA in groups: each row's cluster, each cluster's words and examples",
    "words": "word vectors: nearest words, analogies, word2vec's files",
    "export": "hand an encoder to transformers, sentence-transformers, ONNX Runtime, torchvision or timm",
    "report": "one offline HTML page about a run, the verdict first",
    "methods": "the pretext tasks, and which kinds of data each can carry",
    "tasks": "the downstream tasks",
    "runs": "the runs below a folder, their state and figures",
    "cache": "where packed data lie, how large they are; --clear removes them",
    "completion": "the completion script for bash, zsh or fish",
}


def help_text() -> str:
    """What `selftaught --help` prints."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
    return (
        "usage: selftaught COMMAND ... [--json] [--quiet | --verbose]\n\n"
        "Self-supervised learning on your own data: a representation, an honest verdict, a model that other tools load.\n\n"
        f"commands:\n{lines}\n\n"
        "selftaught COMMAND --help tells a command's options;  selftaught --version.\n"
        "Exit codes: 0 done, 2 wrong request, 3 bad data, 4 refused or broken model, 5 alarmed and stopped, 130 interrupted (saved)."
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if argv[0] in ("-V", "--version", "version"):
        from .. import __version__

        print(f"selftaught {__version__}")
        return 0
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if os.environ.get("SELFTAUGHT_OFFLINE", "") not in ("", "0"):
        os.environ["HF_HUB_OFFLINE"] = "1"
    from .outcome import guarded

    if argv[0] not in COMMANDS:
        return guarded(_unknown, argv)
    command = importlib.import_module(f"{__name__}.{argv[0]}")
    return guarded(command.run, argv[1:])


def _unknown(argv: list[str]) -> int:
    from ..core.errors import nearest

    raise nearest(argv[0], COMMANDS, "command")
