"""`selftaught pretrain DATA`"""

import signal
from dataclasses import dataclass
from typing import Annotated

import tyro

from .. import methods
from ..core import config, module
from ..core.errors import RequestError
from .arguments import Common, from_file, given, parse, wanted, with_options
from .outcome import INTERRUPTED, emit
from .screen import listener

DESCRIPTION = """Learns a representation from DATA without labels; writes a run folder.

DATA: a folder of images, Parquet, CSV, JSONL, text (.gz .zst .xz too), WebDataset tar, hf:NAME, digits.
Without --method the default for the kind of data is taken and said; the options of the chosen method stand at the end."""


@dataclass(kw_only=True)
class Arguments(Common):
    data: Annotated[str, tyro.conf.Positional] = ""
    """What to learn from."""
    method: str | None = None
    """The pretext task (selftaught methods lists them)."""
    encoder: str | None = None
    """resnet-small, resnet18, vit-tiny, ...; or weights to start from: a run folder, transformers:FOLDER, timm:FOLDER, torchvision:FILE."""
    minutes: float | None = None
    """The budget; it is kept, packing included."""
    epochs: float | None = None
    steps: int | None = None
    """0 writes the untrained encoder."""
    out: str | None = None
    """The run's folder (default: runs/DATA-METHOD)."""
    resume: str | None = None
    """Go on with this run folder, by its own settings."""
    overwrite: bool = False
    """Let a new run take the place of the one in --out."""
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    """auto, float32 or bfloat16."""
    modality: str | None = None
    """image, text, series or sound, where the guess is wrong."""
    column: str | None = None
    """The column that holds the data."""
    group: str | None = None
    """The column that says which rows belong together."""
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}", with slashes for folders, {} for what is not kept."""
    size: int | None = None
    """Side of stored images; context length of text; milliseconds of sound heard at once."""
    tokenizer: str | None = None
    """Of text: bpe, wordpiece, unigram, bytes or words (bpe:8000 with a number of ids), or the folder of a model whose tokenizer is taken."""
    word_start: bool | None = None
    """Of text: whether a fresh transformer's token table begins with skip-gram vectors of the corpus's own tokens (default: where vocabulary and corpus are large enough)."""
    rate: int | None = None
    """Of sound: samples a second that are kept, in Hz (default: the files' own, up to 16000)."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    holdout: float = 0.0
    """Share of the rows that training never sees: evaluate and finetune test on them.  (Sizes, means and tokenizer are worked out from all.)"""
    leave_out: str | None = None
    """COLUMN=NAME[,NAME]: rows of these groups (speaker=anna) are never seen: evaluate --split leave-one-out tests on them."""
    threads: int = 2
    """Threads that fetch and decode."""
    save_every: int | None = None
    """Steps between checkpoints (default: once a minute)."""
    track: str | None = None
    """A tracker that accelerate knows: tensorboard, wandb, ..."""
    config: str | None = None
    """A TOML file with any of these settings (a run's config.toml, for example)."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=value for what has no flag: --set recipe.lr=0.003 --set encoder_options.width=96."""


DIRECT = ("out", "overwrite", "save_every", "track")
HANDLED = (*DIRECT, "resume", "json", "quiet", "verbose", "config", "set", "data")


def run(argv: list[str]) -> int:
    from .. import train

    file_only = wanted(argv, "--config")
    name = wanted(argv, "--method") or (config.load(file_only).get("method") if file_only else None)
    method = methods.find(name) if name else None
    kind: type[Arguments] = with_options(Arguments, method) if method else Arguments
    arguments = parse(kind, argv, "pretrain", DESCRIPTION)
    stop = leave_on_signals()
    ears = listener(quiet=arguments.quiet)
    direct = {k: getattr(arguments, k) for k in DIRECT if getattr(arguments, k)}
    try:
        if arguments.resume:
            if arguments.data or arguments.out:
                raise RequestError("--resume takes data and folder from the run.", "Leave out DATA and --out.")
            direct = {k: v for k, v in direct.items() if k in ("save_every", "track")}
            done = train.resume(arguments.resume, listener=ears, stop=stop, **direct)
        else:
            settings = _settings(arguments, method, given(argv))
            done = train.pretrain(settings.pop("data"), listener=ears, stop=stop, **direct, **settings)
    finally:
        ears.finish()
    emit(done.result, arguments.json, _words(done.result))
    return 0 if done.result.get("finished", True) else INTERRUPTED


def _settings(arguments: Arguments, method: type | None, typed: set[str]) -> dict:
    """Defaults < --config < flags that were typed."""
    settings = from_file(arguments.config, arguments.set)
    settings.pop("resolved", None)
    options = dict(settings.get("options", {}))
    if method:
        options |= {
            name: getattr(arguments, name)
            for name in module.option_docs(method)
            if name in typed and hasattr(arguments, name)
        }
    flags = {k: v for k, v in vars(arguments).items() if k not in HANDLED and k in Arguments.__dataclass_fields__}
    settings |= {k: v for k, v in flags.items() if k in typed}
    if options:
        settings["options"] = options
    if arguments.data:
        settings["data"] = arguments.data
    if not settings.get("data"):
        raise RequestError("No data were given.", "selftaught pretrain DATA: a folder, a file, hf:NAME or digits.")
    return settings


def leave_on_signals():
    """A function that is True once SIGTERM or Ctrl-C has come; a second Ctrl-C leaves at once."""
    asked: list[int] = []

    def note(number, frame):
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return lambda: bool(asked)


def _words(result: dict) -> str:
    if not result.get("finished", True):
        return f"stopped, saved: {result['run']}"
    loss = f", loss {result['loss']:.4f}" if result["loss"] is not None else ""
    return (
        f"{result['method']}: {result['steps']} steps, {result['examples']:,} examples in {result['seconds']:.0f} s{loss}\n"
        f"run: {result['run']}\nnext: selftaught evaluate {result['run']} DATA"
    )
