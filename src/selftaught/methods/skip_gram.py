"""Skip-gram with negative sampling: each word predicts the words around it.

Paper: Mikolov, Chen, Corrado & Dean, "Efficient Estimation of Word Representations in Vector Space", 2013 (arXiv:1301.3781); negative sampling
and subsampling: Mikolov, Sutskever, Chen, Corrado & Dean 2013 (arXiv:1310.4546).

When it works: which words are like which, from a few million words on, in minutes on a processor; texts that are told by their words.
When it fails: small corpora (below some hundred thousand words); what hangs on the order of words or on negation; words that are rare, or were
never seen (fasttext has vectors for those); languages that are not written with spaces.

Cost: on one core of about 3 GHz some 0.5 microseconds a word and epoch with the defaults; two tables of words x dimensions float32.

Scaled to the budget: the number of epochs.  Unlike word2vec.c, words of one window share their centre's negatives (Ji et al. 2016), and no score
is clipped.  Several threads write without locks, so that only one of them (workers = 1) gives the same vectors for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import ClosedForm, Facts, Kept
from ..nets.word_fit import Fitting, Plan


class SkipGram(ClosedForm):
    """word2vec's skip-gram."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Mikolov et al. 2013, Distributed Representations of Words and Phrases and their Compositionality"  # fmt: skip
    aliases: ClassVar[tuple[str, ...]] = ("skipgram", "word2vec")
    needs: ClassVar[frozenset[str]] = frozenset({"words"})
    folders: ClassVar[frozenset[str]] = frozenset({"start"})
    tokenizer: ClassVar[str | None] = "words"
    context: ClassVar[int | None] = 1024
    begins_with: ClassVar[frozenset[str]] = frozenset({"word2vec"})
    exact: ClassVar[bool] = False

    dimensions: int = 100
    """Numbers in a vector."""
    window: int = 5
    """Words on either side at most: how many is drawn anew for each centre, from 1 on."""
    negatives: int = 5
    """Words drawn against each centre."""
    lr: float = 0.025
    """Learning rate of the first word; it falls linearly."""
    sample: float = 1e-3
    """Words more frequent than this share of the corpus are left out at random; 0 keeps all."""
    min_count: int = 5
    """Words that occur less often are left out."""
    epochs: float | None = None
    """Passes over the corpus; None: what --minutes allow (100 at most), else 5."""
    workers: int | None = None
    """Threads that train, without locks: one gives the same vectors for the same seed, several do not.  None: as many as torch uses."""
    smoothing: float = 1e-3
    """A text is the mean of its words' vectors, a word of frequency p weighing a / (a + p) with this a; 0: all alike."""
    start: str | None = None
    """A file in word2vec's format (.txt, .bin) whose vectors training begins with (--encoder word2vec:FILE)."""

    def prepare(self, facts: Facts, seed: int) -> Self:
        modality = facts.modality
        plan = Plan(
            way="skip-gram", vocabulary=modality.vocabulary, specials=modality.specials, dimensions=self.dimensions,
            window=self.window, negatives=self.negatives, lr=self.lr, sample=self.sample, min_count=self.min_count, epochs=self.epochs,
            minutes=facts.minutes, threads=self.workers or torch.get_num_threads(), seed=seed, smoothing=self.smoothing, start=self.start,
        )  # fmt: skip
        self.fitting = Fitting(plan, modality.words)
        return self

    def fit(self, data, state: dict[str, Tensor] | None) -> Iterator[tuple[dict[str, Tensor], float]]:
        return self.fitting.run(data, state)

    def news(self) -> list[str | dict[str, float]]:
        return self.fitting.told()

    def finish(self) -> Kept:
        return self.fitting.kept()
