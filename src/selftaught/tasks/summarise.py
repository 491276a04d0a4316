"""Summarisation: a short text written of a long one (a title, a headline, an abstract), learned from pairs.

When it works: thousands of pairs whose short text follows from the long one's beginning; encoders and decoders pretrained on such texts.
When it fails: texts far longer than the context, of which only the beginning is read; small networks copy poorly: names and numbers go wrong,
and what is written reads well and may be untrue.
What to watch: ROUGE beside that of the first sentence alone (the lead), which is hard to beat where texts begin with what matters.

Network: as for translation. Measure: ROUGE-1, -2, -L and -Lsum (F1) with Unicode words; intervals over texts.
Data: a table with a column of texts and one of summaries (--column TEXT --labels SUMMARY).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..core.task import Task
from ..measures.rouge import sentences
from ..measures.written import RougeScores


class Summarise(Task):
    """Short texts of long ones: beam search with a length penalty; ROUGE.

    Split rule: pairs at random, groups and pairs of one source together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "text"
    aliases: ClassVar = ("summarize", "summarisation", "summarization")
    blind_name: ClassVar[str] = "lead sentence"
    source: str = ""
    """Column of the texts that was learned from."""
    longest: int = 128
    """Tokens of an answer at most, the end mark included."""
    beams: int = 4
    """Answers that are followed side by side; 1 is greedy."""
    length_penalty: float = 1.0
    """An answer's log-probability is divided by its tokens to this power: more favours longer ones."""
    metric: str = "ROUGE-L"
    """What decides."""

    def blind(self, sources: Sequence[str]) -> list[str]:
        """The first sentence of each."""
        return [next(iter(sentences(text)), text) for text in sources]

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> RougeScores:
        """ROUGE of every text."""
        return RougeScores.of(guesses, targets, self.metric)
