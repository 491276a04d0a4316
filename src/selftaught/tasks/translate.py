"""Translation: a text written anew in another language, learned from pairs.

When it works: tens of thousands of pairs of sentences; an encoder and decoder pretrained on both languages (`pretrain --method t5` or bart) need fewer.
When it fails: a few hundred pairs; sentences longer than the context, whose end is lost; languages that the tokenizer has never seen, which it spells in bytes.
What to watch: BLEU beside that of copying the source, which names and numbers alone lift above 0; "length", the words written per word of the
references: far from 1, set --length-penalty.

Network: the run's encoder with its decoder, or a fresh one beside it; a run that reads from left to right reads the source, a separating mark, and goes on.
Measure: BLEU and chrF by sacrebleu on the texts as they are; intervals over sentences.
Data: a table with two columns of texts (--column SOURCE --labels TARGET), or two files with a line for a line (train.en,train.de).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..core.task import Task
from ..measures.written import BleuCounts


class Translate(Task):
    """Texts in another language: beam search with a length penalty; BLEU and chrF.

    Split rule: pairs at random, groups and pairs of one source together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "text"
    aliases: ClassVar = ("translation",)
    blind_name: ClassVar[str] = "copy the source"
    source: str = ""
    """Column of the sources that was learned from."""
    longest: int = 128
    """Tokens of an answer at most, the end mark included."""
    beams: int = 4
    """Answers that are followed side by side; 1 is greedy."""
    length_penalty: float = 1.0
    """An answer's log-probability is divided by its tokens to this power: more favours longer ones."""
    metric: str = "BLEU"
    """What decides."""

    def blind(self, sources: Sequence[str]) -> list[str]:
        """The sources themselves."""
        return list(sources)

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> BleuCounts:
        """sacrebleu's counts of every text."""
        return BleuCounts.of(guesses, targets)
