"""`selftaught generate RUN --prompt TEXT`"""

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """The run of a causal language model (next-token, hybrid)."""
    prompt: str = ""
    """What to write behind; "-" reads it from stdin; nothing begins a text."""
    tokens: int = 100
    """At most; a text may end before."""
    temperature: float = 1.0
    """Below 1 more usual, above 1 stranger; 0: always the likeliest token."""
    top_k: int | None = None
    """Draws from the k likeliest tokens."""
    top_p: float | None = None
    """Draws from the fewest tokens that together hold this share."""
    seed: int = 0
    count: int = 1
    """Texts to write; they differ."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation.generate import generate

    arguments = parse(
        Arguments,
        argv,
        "generate",
        "Writes behind a prompt, one token after another; the same seed writes the same text.",
    )
    prompt = sys.stdin.read().removesuffix("\n") if arguments.prompt == "-" else arguments.prompt
    live = arguments.count == 1 and not arguments.json

    told: list[int] = []

    def stream(row: int, text: str) -> None:
        print(text if told else prompt + text, end="", flush=True)
        told.append(row)

    ears = listener(quiet=arguments.quiet)
    began = time.perf_counter()
    try:
        found = generate(
            arguments.run, prompt, tokens=arguments.tokens, temperature=arguments.temperature, top_k=arguments.top_k,
            top_p=arguments.top_p, seed=arguments.seed, count=arguments.count, device=arguments.device, listener=ears,
            stream=stream if live else None,
        )  # fmt: skip
    finally:
        ears.finish()
    seconds = time.perf_counter() - began
    if live:
        print("" if told else prompt)
        return
    written = sum(one.tokens for one in found)
    result = {
        "run": arguments.run, "prompt": prompt, "samples": [{"text": o.text, "tokens": o.tokens, "ended": o.ended} for o in found],
        "temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p, "seed": arguments.seed,
        "tokens": written, "seconds": round(seconds, 3),
    }  # fmt: skip
    emit(result, arguments.json, "\n\n".join(f"[{n}] {prompt}{one.text}" for n, one in enumerate(found, 1)))
