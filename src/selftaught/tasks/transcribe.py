"""Speech recognition: what is said in a clip, written in characters (connectionist temporal classification, CTC).

selftaught finetune RUN CLIPS --task transcribe --labels text

When it works: an encoder pretrained on hours of such speech, and minutes of transcripts; a small vocabulary (digits, commands) with less.
When it fails: a few clips and an encoder that knows little; speech faster than the encoder's tokens (see --upsample).
What to watch: the blank rate.  Training begins with a plateau (about 2.9 nats a character of English) on which every frame is blank: that is no failure yet;
outputs that are all blank at the end are, and are told by that name.  The length ratio far from 1: too few or too many characters.

Head: one linear layer over the encoder's tokens; the blank is output 0.  Clips with fewer frames than characters (and a blank between two alike) cannot be
learned: they are left out of training, counted and said; --upsample makes several frames of a token.  Loss: nats of whole clips, summed, over the characters of all.
Answers: the likeliest sequence by prefix beam search (--beams; 1: the likeliest label of every frame); no language model.
Measure: corpus word error rate (lower is better) by jiwer, both sides normalised alike (--normaliser), CER beside; intervals over clips, by speaker where a group is known.
Data: a table with sounds and transcripts, or sounds with a .txt of the same name beside each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn as nn
from torch import Tensor

from .. import losses
from ..core import Ragged
from ..core.errors import DataError
from ..core.task import Task
from ..losses.ctc import BLANK, ctc
from ..measures.transcripts import TranscriptCounts, normalised
from ..nets.ctc import CtcHead, Emitted
from ..nets.ctc_search import greedy, prefix_beams

MOST_CHARACTERS = 10_000
"""Characters that a head tells apart, at most."""
ALL_BLANK = 0.995
"""Share of blank frames from which on outputs count as all blank."""


@dataclass(frozen=True)
class Heard:
    """A clip's answer: the text, its log-probability in nats, frames, and how many of them are blank."""

    text: str
    nats: float
    frames: int
    blanks: int


class Transcribe(Task):
    """Characters of speech by CTC: a linear layer over the encoder's tokens, prefix beam search, WER and CER.

    Split rule: clips at random, speakers (groups) and copies together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "transcript"
    lower: ClassVar[bool] = True
    aliases: ClassVar = ("asr", "ctc", "speech-recognition")
    characters: tuple[str, ...] = ()
    """The characters that are written, in the order of their outputs from 1 on; output 0 is the blank."""
    normaliser: str = "simple"
    """What both sides go through before they are learned and compared (measures.transcripts.NORMALISERS)."""
    beams: int = 8
    """Prefixes that are followed side by side; 1: the likeliest label of every frame."""
    upsample: int = 1
    """Frames that are made of each token."""
    blank_bias: float = 0.0
    """Where the blank's logit begins above the others."""
    column: str = ""
    """Column of the transcripts that was learned from."""
    metric: str = "WER"
    """What decides: lower is better."""

    @property
    def outputs(self) -> int:
        return len(self.characters) + 1

    @property
    def classes(self) -> tuple[str, ...]:
        """No figure is given by class."""
        return ()

    def head(self, dim: int) -> nn.Module:
        """A CtcHead: tokens (B, T, dim) and their count -> Emitted."""
        return CtcHead(width=dim, outputs=self.outputs, upsample=self.upsample, blank_bias=self.blank_bias)

    def spelled(self, text: str) -> tuple[np.ndarray, int]:
        """(outputs that spell `text` once normalised, characters of it that are unknown and left out)."""
        place = {c: k for k, c in enumerate(self.characters, BLANK + 1)}
        found = [place.get(c) for c in normalised(text, self.normaliser)]
        codes = np.array([k for k in found if k is not None], np.int64)
        return codes, len(found) - len(codes)

    def written(self, codes: Sequence[int]) -> str:
        """The text of outputs, without blanks."""
        return "".join(self.characters[k - BLANK - 1] for k in codes)

    def loss(self, outputs: Emitted, targets: Ragged) -> Tensor:  # type: ignore[override]
        """Nats of all clips over the characters of all; ValueError where a clip has too few frames."""
        nats = ctc(outputs.logits, outputs.frames, targets)
        return losses.mean(nats, targets.lengths.sum())

    def predict(self, outputs: Emitted) -> list[Heard]:  # type: ignore[override]
        """What each clip says."""
        logp = outputs.logits.detach().double().log_softmax(-1).cpu().numpy()
        found = []
        for row, count in zip(logp, outputs.frames.tolist()):
            own = row[:count]
            best = own.argmax(1) if count else np.zeros(0, np.int64)
            if self.beams > 1:
                codes, nats = prefix_beams(own, self.beams)[0]
            else:
                codes, nats = greedy(own), float(own.max(1).sum()) if count else 0.0
            found.append(Heard(self.written(codes).strip(), float(nats), count, int((best == BLANK).sum())))
        return found

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> TranscriptCounts:
        """Errors of `guesses` (Heard, or texts) against the texts `targets`."""
        texts = [g.text if isinstance(g, Heard) else g for g in guesses]
        frames = [(g.frames, g.blanks) if isinstance(g, Heard) else (0, 0) for g in guesses]
        return TranscriptCounts.of(texts, targets, np.array(frames, np.int64), normaliser=self.normaliser)

    def rank(self, tally: TranscriptCounts, loss: float) -> tuple[float, float]:
        """By which an epoch is chosen on validation clips: fewer wrong characters, then the lower loss."""
        return -float(tally.characters_value()[0]), -loss

    def state(self, tally: TranscriptCounts) -> str:
        """What is to be said of outputs on validation clips while training goes on."""
        return "all outputs blank: the first plateau of CTC, keep going" if tally.blank_rate >= ALL_BLANK else ""

    def collapse(self, tally: TranscriptCounts) -> str:
        """What is wrong with outputs that are (nearly) all blank once training is over; else nothing."""
        if not len(tally) or (tally.blank_rate < ALL_BLANK and tally.silent < 0.9 * len(tally)):
            return ""
        return (
            f"blank collapse: {tally.blank_rate:.1%} of the frames are blank and {tally.silent} of {len(tally)} clips get no text at all, so that the WER of "
            f"{float(tally.value()[0]):.3f} says nothing of words. Training never left CTC's first plateau: more --epochs, a higher --lr, more transcripts, or another encoder."
        )


def fit(texts: Sequence[str], *, normaliser: str = "simple", **options: Any) -> Transcribe:
    """The task of these (training) transcripts: their characters are the vocabulary.  DataError where there are none, or far too many."""
    counts = Counter(c for text in texts for c in normalised(text, normaliser))
    if not counts:
        raise DataError(
            "The transcripts are empty once they are normalised.",
            "Name another column with --labels, or say --normaliser none.",
        )
    if len(counts) > MOST_CHARACTERS:
        raise DataError(
            f"The transcripts hold {len(counts)} different characters, more than {MOST_CHARACTERS}.",
            "Check that the column holds texts.",
        )
    return Transcribe(characters=tuple(sorted(counts)), normaliser=normaliser, **options)  # type: ignore[call-arg]
