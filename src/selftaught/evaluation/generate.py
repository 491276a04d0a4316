"""`generate`: what a causal language model writes behind a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn as nn

from .. import modalities, nets
from ..core import Encoder, Kept, RequestError
from ..core.listener import Listener
from ..data.bad import Bad
from ..nets.generation import Sampling, write
from ..train.precision import device_of
from ..views.text import BEGIN, END
from .opening import folder_of, method_of

AT_ONCE = 64
"""Texts that are written side by side."""
CHARACTERS = 64
"""Characters of a prompt that are read for each token of the context: what is further back is out of sight."""


@dataclass(frozen=True)
class Generated:
    """One text: what was written behind the prompt, in how many tokens, and whether it came to its end."""

    prompt: str
    text: str
    tokens: int
    ended: bool


def writes(kept: Kept) -> bool:
    """Whether these parts are a model that goes on from the left: a head that predicts the next token, over cacheable blocks."""
    head = kept.parts.get("head")
    able = isinstance(head, nn.Linear) and hasattr(kept.encoder, "blocks") and "causal" in kept.encoder.can
    causal = getattr(kept.encoder, "causal", False)
    return able and (head.predicts == "next" if isinstance(head, nets.heads.LanguageHead) else bool(causal))


def open_model(run) -> tuple[Kept, Any]:
    """Encoder with head, and the modality of a run or model folder; RequestError where it cannot write."""
    folder = folder_of(run)
    if folder is None:
        raise RequestError("An encoder without its head cannot write.", "Give the folder of a run.")
    home = nets.store.find(folder)
    kept, modality = nets.store.load(home), modalities.load(home)
    if not writes(kept) or not hasattr(modality, "text_of"):
        how = method_of(run)
        raise RequestError(
            f"{str(folder)!r} cannot write: {f'its method, {how},' if how else 'it'} does not predict the next word from those before.",
            "Runs of next-token and hybrid on text can: selftaught pretrain DATA --method next-token.",
        )
    return kept, modality


def generate(
    run, prompts: str | Sequence[str] = "", *, tokens: int = 100, temperature: float = 1.0, top_k: int | None = None,
    top_p: float | None = None, seed: int = 0, count: int = 1, device: str | None = "cpu", listener: Listener | None = None,
    stream: Callable[[int, str], None] | None = None,
) -> list[Generated]:  # fmt: skip
    """Writes behind each prompt (one text, or several; "" begins a text), `count` times each: count x prompts results, prompt by prompt.

    tokens: at most; a text may end before.  temperature, top_k, top_p: see nets.generation.Sampling; temperature 0 always takes the likeliest.
    seed: the same text for the same prompt, whatever is written beside it; samples of one prompt differ.  stream(number, text) gets every piece as soon as it is
    written.  Prompts longer than the context are read from their end, which is said.  Raises RequestError for runs that are not causal and for
    settings out of range, ModelError for broken folders.  Cost: one token a step (keys and values are kept), the context once for every half
    context of tokens behind it.
    """
    if tokens < 1 or count < 1:
        raise RequestError(f"{tokens} tokens of {count} texts are none.", "Give at least 1 of each.")
    try:
        sampling = Sampling(temperature, top_k, top_p, seed)
    except ValueError as error:
        raise RequestError(
            f"These settings draw no token: {error}.", "For example temperature 0.8, top_k 50."
        ) from None
    kept, modality = open_model(run)
    given = [prompts] if isinstance(prompts, str) else list(prompts)
    listener, encoder = listener or Listener(), kept.encoder.to(device_of(device))
    head = kept.parts["head"].to(device_of(device))
    coded = [encoded(prompt, modality, encoder, listener) for prompt in given]
    rows = [(p, number) for p in range(len(given)) for number in range(count)]
    out: list[Generated] = []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        texts = [Piece(modality, coded[p]) for p, _ in some]
        stepped = write(
            encoder, head, [coded[p] for p, _ in some], tokens=tokens, sampling=sampling, samples=[n for _, n in some],
            begin=BEGIN, end=END, never=[mark for mark in range(modality.specials) if mark != END],
        )  # fmt: skip
        for said in stepped:
            for row, token in enumerate(said):
                if token is not None:
                    texts[row].add(token)
                    if stream is not None and (new := texts[row].news()):
                        stream(start + row, new)
        for row, (piece, (p, _)) in enumerate(zip(texts, some, strict=True)):
            if stream is not None and (rest := piece.news(last=True)):
                stream(start + row, rest)
            out.append(Generated(given[p], piece.text(), len(piece.written), piece.ended))
    return out


def encoded(prompt: str, modality, encoder: Encoder, listener: Listener) -> list[int]:
    """The ids of a prompt; of none, where there is nothing but space."""
    context: int = encoder.context  # type: ignore[assignment]
    if not isinstance(prompt, str):
        raise RequestError(f"A prompt is text, not {type(prompt).__name__}.")
    if not prompt.strip():
        return []
    try:
        ids = [int(i) for i in modality.decode(prompt[-CHARACTERS * context :])]
    except Bad as bad:
        raise RequestError(f"The prompt cannot be read: {bad}.") from None
    if len(ids) > context - 1:
        listener.say(
            f"the prompt of {len(ids)} tokens is longer than the context of {context}: its last {context - 1} are read."
        )
    return ids


class Piece:
    """A text that grows token by token, and what of it is new."""

    def __init__(self, modality, prompt: list[int]):
        self.modality, self.prompt = modality, prompt
        self.written: list[int] = []
        self.ended = False
        self._told = 0

    def add(self, token: int) -> None:
        """Takes in the next token; the end mark says nothing."""
        if token == END:
            self.ended = True
        else:
            self.written.append(token)

    def text(self) -> str:
        """What stands behind the prompt."""
        before = self.modality.text_of(self.prompt)
        whole = self.modality.text_of([*self.prompt, *self.written])
        return whole[len(before) :] if whole.startswith(before) else self.modality.text_of(self.written)

    def news(self, last: bool = False) -> str:
        """What was not told yet; bytes that are no whole character wait for the rest."""
        text = self.text()
        ready = text if last else text.rstrip("\N{REPLACEMENT CHARACTER}")
        told, self._told = self._told, max(self._told, len(ready))
        return ready[told:]
