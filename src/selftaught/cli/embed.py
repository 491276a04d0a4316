"""`selftaught embed RUN DATA -o F.parquet`"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ..core.errors import RequestError
from .arguments import Common, parse
from .evaluate import layer_of
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    data: Annotated[str, tyro.conf.Positional]
    out: Annotated[str, tyro.conf.arg(aliases=("-o",))] = "embeddings.parquet"
    """A .parquet file, or a folder of parts."""
    shard: str | None = None
    """i/n: this process writes every n-th part from i on; any scheduler can start n of them."""
    layer: str = "last"
    """last (the representation) or a stage's number, as evaluate counts them."""
    dtype: Literal["float32", "float16"] = "float32"
    batch: int = 256
    overwrite: bool = False
    device: str = "auto"
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""


def run(argv: list[str]) -> None:
    from .. import modalities
    from ..evaluation import embed_to
    from ..nets import store
    from ..train.precision import device_of

    arguments = parse(
        Arguments,
        argv,
        "embed",
        "Representations of DATA as Parquet; begun again after a cut, finished parts are kept.",
    )
    ears = listener(quiet=arguments.quiet)
    folder = store.find(arguments.run)
    try:
        data = modalities.open_data(
            arguments.data,
            modality=modalities.load(folder),
            column=arguments.column,
            max_bad=arguments.max_bad,
            say=ears.say,
        )
        done = embed_to(
            arguments.out, store.load_encoder(folder), data, shard=_shard(arguments.shard), batch=arguments.batch,
            device=device_of(arguments.device), layer=_layer(arguments.layer), dtype=arguments.dtype, overwrite=arguments.overwrite, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    files = [str(f) for f in done.files]
    result = {
        "files": files,
        "rows": done.rows,
        "dimensions": done.dim,
        "reused": done.reused,
        "rejected": len(data.rejected),
    }
    emit(
        result,
        arguments.json,
        f"{done.rows} rows of {done.dim} dimensions in {arguments.out} ({done.reused} of {len(files)} parts were there already)",
    )


def _layer(text: str) -> int | Literal["last"]:
    layer = layer_of(text)
    if isinstance(layer, int):
        return layer
    if layer != "last":
        raise RequestError(f"--layer {text!r} is no layer.", "Say 'last' or a stage's number, as evaluate counts them.")
    return "last"


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    first, slash, second = text.partition("/")
    if not slash or not first.isdigit() or not second.isdigit():
        raise RequestError(f"--shard {text!r} is no shard.", "Write i/n, for example 0/4 to 3/4.")
    return int(first), int(second)
