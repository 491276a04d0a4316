"""fastText: skip-gram in which a word is the mean of its own vector and those of its n-grams of letters.

Paper: Bojanowski, Grave, Joulin & Mikolov, "Enriching Word Vectors with Subword Information", TACL 2017 (arXiv:1607.04606).

When it works: rare words, inflected languages, misspellings; words that were never seen have vectors too.
When it fails: words that are spelled alike and mean different things; what hangs on the order of words; writing without words between spaces.

Cost: on one core of about 3 GHz some 1.5 microseconds a word and epoch with the defaults; (words + buckets) x dimensions float32 and as much as a table
of words again.

Scaled to the budget: the number of epochs; buckets 2,000,000 -> 262,144.  A word's subwords are gathered once each time that it stands in the corpus,
not once a neighbour; words of one window share their centre's negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import ClosedForm, Facts, Kept
from ..core.errors import RequestError
from ..nets.subwords import Subwords
from ..nets.word_fit import Fitting, Plan


class FastText(ClosedForm):
    """fastText's skip-gram over subwords."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Bojanowski et al. 2017, Enriching Word Vectors with Subword Information"  # fmt: skip
    aliases: ClassVar[tuple[str, ...]] = ()
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
    lr: float = 0.05
    """Learning rate of the first word; it falls linearly."""
    sample: float = 1e-4
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
    buckets: int = 1 << 18
    """Rows that n-grams are hashed into; fastText's own default is 2,000,000."""
    shortest: int = 3
    """Letters of the shortest n-gram, the marks at a word's ends counted."""
    longest: int = 6
    """Letters of the longest n-gram."""

    def prepare(self, facts: Facts, seed: int) -> Self:
        modality = facts.modality
        plan = Plan(
            way="subwords", vocabulary=modality.vocabulary, specials=modality.specials, dimensions=self.dimensions,
            window=self.window, negatives=self.negatives, lr=self.lr, sample=self.sample, min_count=self.min_count, epochs=self.epochs,
            minutes=facts.minutes, threads=self.workers or torch.get_num_threads(), seed=seed, smoothing=self.smoothing, start=self.start,
            subwords=self._subwords(),
        )  # fmt: skip
        self.fitting = Fitting(plan, modality.words)
        return self

    def _subwords(self) -> Subwords:
        try:
            return Subwords(self.buckets, self.shortest, self.longest)
        except ValueError as error:
            raise RequestError(f"These n-grams cannot be: {error}.") from None

    def fit(self, data, state: dict[str, Tensor] | None) -> Iterator[tuple[dict[str, Tensor], float]]:
        return self.fitting.run(data, state)

    def news(self) -> list[str | dict[str, float]]:
        return self.fitting.told()

    def finish(self) -> Kept:
        return self.fitting.kept()
