"""`selftaught export RUN --to FORMAT`"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    to: Literal["onnx", "transformers", "sentence-transformers", "torchvision", "timm"] = "onnx"
    """Whose format."""
    out: Annotated[str | None, tyro.conf.arg(aliases=("-o",))] = None
    """The folder to write (default: RUN-FORMAT)."""
    pixels: Literal["float", "uint8"] = "float"
    """What an ONNX graph of images takes: 0-1 or 0-255."""
    head: Literal["auto", "none", "causal"] = "auto"
    """transformers: auto writes a language model's head along, none the encoder alone, causal a hybrid run as one that looks back."""
    licence: str | None = None
    """The licence of the weights, for the model card: they are yours."""
    overwrite: bool = False


def run(argv: list[str]) -> None:
    from ..export import export
    from ..export.card import of_run

    arguments = parse(
        Arguments,
        argv,
        "export",
        "Hands an encoder over; its numbers are compared with the encoder's before the folder appears.",
    )
    card = of_run(arguments.run, **({"licence": arguments.licence} if arguments.licence else {}))
    out = arguments.out or f"{arguments.run.rstrip('/')}-{arguments.to}"
    done = export(
        arguments.run,
        arguments.to,
        out,
        card=card,
        pixels=arguments.pixels,
        head=arguments.head,
        overwrite=arguments.overwrite,
    )
    result = {"out": str(done.folder), "to": done.to, "measured": done.measured}
    lines = [f"{done.to}: {done.folder}", *(f"  {k}: {v}" for k, v in done.measured.items())]
    emit(result, arguments.json, "\n".join(lines))
