"""Extractive question answering: which words of a text answer a question about it, or that none do.

When it works: some thousand questions, or an encoder that has read much; answers whose neighbours repeat words of the question.
When it fails: answers that are put together from several places, or that no words of the text spell; few questions about few texts.
What to watch: F1 against exact match (right place, wrong borders), and the blind rows: what words shared with the question find on their own.

Head: logits of an answer's first and last piece (Devlin et al. 2019), from the pieces' vectors, the question's, and what the words alone say (measures.overlap), normalised
over all pieces of the text, however many windows it takes (Clark & Gardner 2018), and over "no answer" where training has such questions.
Measure: F1 of words and exact match after SQuAD's normalisation, for any script.
Data: SQuAD's JSON, or a table with columns context, question and answers; questions about one text (or of one title) stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from .. import losses
from ..core import Ragged
from ..core.task import Task
from ..measures.answers import Answers, compare
from ..measures.overlap import CLUES
from ..nets.spans import Reader


class Answer(Task):
    """The span of a text that answers a question, or that there is none; F1 of words.

    Split rule: questions at random, those of one title or text together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "answers"
    aliases: ClassVar = ("qa", "question-answering", "squad")
    nothing: bool = False
    """Whether a question may have no answer: where training has such."""
    longest: int = 30
    """Pieces of an answer at most."""
    metric: str = "F1"
    """What decides."""

    @property
    def outputs(self) -> int:
        return 2

    @property
    def classes(self) -> tuple[str, ...]:
        return ()

    def head(self, dim: int) -> nn.Module:
        """A Reader: a reading -> logits of first and last piece, and of no answer."""
        return Reader(width=dim, clues=CLUES)

    def scores(self, outputs: tuple[Tensor, Tensor], offsets: Tensor) -> Tensor:
        """(rows, 1 + pieces, 2) log-probabilities of first and last; column 0 is "no answer", padding is -inf."""
        pieces, none = outputs
        wide, valid = Ragged(pieces.float(), offsets).pad()
        wide = wide.masked_fill(~valid[..., None], -torch.inf)
        first = none.float()[:, None] if self.nothing else torch.full_like(none.float()[:, None], -torch.inf)
        empty = ~valid.any(1) if valid.shape[1] else torch.ones(len(none), dtype=torch.bool, device=none.device)
        first = torch.where(empty[:, None, None], torch.zeros_like(first), first)  # a text of no pieces holds no answer
        return torch.cat([first, wide], 1).log_softmax(1)

    def loss(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """-log p(first) - log p(last), the mean over questions; targets: (rows, 2) pieces, -1 for no answer, -2 for what cannot be learnt from, and the offsets."""
        wanted, offsets = targets
        logp = self.scores(outputs, offsets)
        use = (wanted >= (-1 if self.nothing else 0)).all(1)
        held = logp[use].gather(1, (wanted[use] + 1)[:, None]).squeeze(1)
        return losses.mean(-held.sum(1))

    def predict(self, outputs: tuple[Tensor, Tensor], offsets: Tensor) -> list[tuple[int, int, float]]:
        """(first piece, last piece, probability) of the likeliest answer of each row; -1, -1 where none is likelier."""
        logp = self.scores(outputs, offsets).detach().double().cpu().numpy()
        rows = []
        for row, count in zip(logp, (offsets[1:] - offsets[:-1]).tolist()):
            first, last = row[1 : count + 1, 0], row[1 : count + 1, 1]
            best, found = (row[0].sum(), (-1, -1)) if self.nothing or not count else (-np.inf, (-1, -1))
            for length in range(min(self.longest, count)):
                both = first[: count - length] + last[length:]
                at = int(both.argmax())
                if both[at] > best:
                    best, found = both[at], (at, at + length)
            rows.append((*found, float(np.exp(best))))
        return rows

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> Answers:
        """Texts of answers ("": none) against the true ones of each question."""
        return compare(guesses, targets)


def fit(targets: np.ndarray, answered: Sequence[bool]) -> Answer:
    """The task of these questions: `targets` (rows, 2) as in `Answer.loss`, `answered` whether each has an answer."""
    known = targets[(targets >= 0).all(1)]
    lengths = known[:, 1] - known[:, 0] + 1
    longest = int(np.clip(np.quantile(lengths, 0.99) if len(lengths) else 1, 8, 128))
    return Answer(nothing=not all(answered), longest=longest)  # type: ignore[call-arg]
