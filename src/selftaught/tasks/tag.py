"""Token classification: a tag for every word: named entities, part of speech, chunks.

When it works: hundreds of tagged sentences; spans whose words and neighbours give them away.
When it fails: names that are told by the world alone; a causal encoder, which has not seen what stands behind a word.
What to watch: each type's recall beside its precision, and the blind baseline: what the most frequent tag of each known word would score.

Head: one linear layer over the vector of each word's first piece (the last one's where the encoder reads forwards only); cross-entropy over the words that have a tag.
Texts longer than the context are read in overlapping windows.  Of spans the likeliest sequence in which every I- goes on with a span is given, and
how often that was not simply each word's likeliest tag is counted.
Measure: F1 of spans with the right type and both borders right; of plain tags the share of words.
Data: a CoNLL file (a word and its tags a line, blank lines between sentences), or a table with lists of words and of tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..core.task import Task
from ..measures.tags import OUTSIDE, Spans, count_spans, count_words, likeliest
from ..nets.spans import Tagger


class Tag(Task):
    """A tag for every word: a linear layer over the encoder's pieces; strict span F1, or accuracy of plain tags.

    Split rule: sentences at random, documents and copies together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "tags"
    aliases: ClassVar = ("ner", "pos", "token-classification")
    tags: tuple[str, ...] = ()
    """The tags, in the order of their codes; of spans as IOB2."""
    scheme: str = "plain"
    """How the training file writes them (data.tags.SCHEMES); "plain": a tag for every word, no spans."""
    usual: int = 0
    """The code of the most frequent tag: what a word gets that the tokenizer leaves nothing of."""
    piece: Literal["first", "last"] = "first"
    """Which piece of a word speaks for it."""
    metric: str = "span F1"
    """What decides."""

    @property
    def outputs(self) -> int:
        return len(self.tags)

    @property
    def spanned(self) -> bool:
        """Whether tags are parts of spans."""
        return self.scheme != "plain"

    @property
    def classes(self) -> tuple[str, ...]:
        """The types of spans, or the tags, that figures are given for."""
        if not self.spanned:
            return self.tags
        return tuple(dict.fromkeys(tag[2:] for tag in self.tags if tag != OUTSIDE))

    def head(self, dim: int) -> nn.Module:
        """A Tagger: a reading -> (words, outputs)."""
        return Tagger(width=dim, outputs=self.outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, the mean over the words with a tag; `targets` (words,) codes, -1 where a word has none."""
        known = targets >= 0
        return losses.mean(F.cross_entropy(outputs[known].float(), targets[known], reduction="none"))

    def predict(self, outputs: Tensor, offsets: Tensor) -> list[tuple[np.ndarray, np.ndarray, bool]]:
        """(codes, probabilities of these, repaired) of each row's words; `offsets` (rows + 1,) of rows in the outputs (words, K)."""
        logp = outputs.detach().double().log_softmax(1).cpu().numpy()
        rows = []
        for first, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
            own, repaired = logp[first:stop], False
            if self.spanned and stop > first:
                codes, repaired = likeliest(own, self.tags)
            else:
                codes = own.argmax(1) if stop > first else np.zeros(0, np.int64)
            rows.append((codes, np.exp(own[np.arange(len(codes)), codes]), repaired))
        return rows

    def named(self, codes: np.ndarray) -> list[str]:
        """The tags of codes; O where a code is -1."""
        return [self.tags[k] if k >= 0 else OUTSIDE for k in codes.tolist()]

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> Spans:
        """Spans, or words, compared sentence by sentence; guesses and targets are codes, and a word whose target is -1 counts neither way."""
        if not self.spanned:
            return count_words(guesses, targets, self.outputs)
        said = [self.named(np.where(t < 0, -1, g)) for g, t in zip(guesses, targets, strict=True)]
        return count_spans(said, [self.named(t) for t in targets], self.classes)


def fit(sentences: Sequence[Sequence[str | None]], scheme: str, *, causal: bool = False) -> Tag:
    """The task of tags as data.tags.open_tags gives them: I- of every type that has only B- is among the tags too."""
    count: dict[str, int] = {}
    for tags in sentences:
        for tag in tags:
            if tag is not None:
                count[tag] = count.get(tag, 0) + 1
    if scheme == "plain":
        names = tuple(sorted(count))
    else:
        kinds = sorted({tag[2:] for tag in count if tag != OUTSIDE})
        names = (OUTSIDE, *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))
    usual = max(range(len(names)), key=lambda k: count.get(names[k], 0))
    metric = "accuracy" if scheme == "plain" else "span F1"
    return Tag(  # type: ignore[call-arg]
        tags=names, scheme=scheme, usual=usual, piece="last" if causal else "first", metric=metric
    )
