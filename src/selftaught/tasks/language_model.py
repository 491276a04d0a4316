"""Language modelling: how well a run predicts texts that it has not seen, in bits per byte; no labels, nothing is trained.

selftaught evaluate RUN TEXTS --task language-model

For runs that predict the next token (next-token, hybrid): bits per byte, comparable across tokenizers, with an interval over documents, and the
perplexity a token, comparable at one tokenizer and context alone.  Long documents are read in windows that overlap by half, so that all but the
first tokens are predicted from half a context or more.  For runs that fill gaps (masked-token, bert): nats a hidden token, with the same masks at every
evaluation, and its exponential, called pseudo-perplexity: such models give texts no probability.  Beside it what is lost by knowing
nothing but how common each token is in the other documents.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..core.errors import RequestError
from ..core.task import Task


class LanguageModel(Task):
    """Bits per byte of a language model's own head: nothing is trained."""

    version: ClassVar[int] = 1
    wants: ClassVar = "nothing"
    lower: ClassVar[bool] = True
    aliases: ClassVar = ("language-modelling", "perplexity")
    metric: str = "bits per byte"
    """What decides; lower is better."""
    ratio: float = 0.15
    """Share of the tokens that are hidden from a model that fills gaps."""

    def head(self, dim: int):
        raise RequestError(
            "Language modelling trains no head: its own comes from pretraining.",
            "selftaught evaluate RUN DATA --task language-model; to train on: selftaught pretrain DATA --encoder RUN.",
        )

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`guesses` are the nats (N,) of documents, `targets` their bytes (N,)."""
        return guesses / np.log(2), targets

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """`guesses` are the nats (N,) of documents, `targets` their bytes (N,)."""
        top, bottom = self.items(guesses, targets)
        return {self.metric: float(top.sum() / bottom.sum())}
