"""A token table that begins with word vectors: skip-gram over the corpus's own tokens, seconds before the first step.

A fresh table has to learn from a few thousand steps which tokens are like which; skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546)
reads millions of tokens a second and tells it at once.  The vectors lose their common mean and get one spread, since what all tokens share tells nothing apart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from ..core import DataError, Encoder, RequestError, random
from ..nets.text import TextTransformer
from . import checkpoint

if TYPE_CHECKING:
    from .job import Job

PASSES, MOST, A_MINUTE = 20, 40_000_000, 5_000_000
"""Passes over the corpus, tokens in all of them, and tokens for each minute of the budget, at most: counted, not timed, so that a seed gives the same table again."""
LEAST_IDS, LEAST_TOKENS = 1_000, 100_000
"""What a vocabulary and a corpus have at least where nobody asked: bytes and a few lines are told apart without."""
RARE = 2
"""A token that occurs less often keeps its random row."""
SPREAD = 0.05
"""Standard deviation of the table's numbers, of which positions have 0.02."""


def begin(job: Job, encoder: Encoder) -> None:
    """Puts the vectors into the fresh `encoder`'s table, and says so; does nothing where the run goes on from a checkpoint.

    RequestError where they were asked for (--word-start) and the encoder has no table of tokens, or the corpus is too small."""
    asked = job.settings.word_start
    fits = isinstance(encoder, TextTransformer) and hasattr(job.data, "lengths") and job.data.lengths is not None
    if asked and not fits:
        raise RequestError(
            f"--word-start: {encoder.kind} has no table of tokens to begin with word vectors.",
            "Leave it out, or take a text transformer.",
        )
    if asked is False or job.settings.steps == 0 or not fits or (job.resume and checkpoint.newest(job.run.checkpoints)):
        return
    assert isinstance(encoder, TextTransformer)
    tokens = int(job.data.lengths.sum())
    if asked is None and (encoder.vocabulary - encoder.specials < LEAST_IDS or tokens < LEAST_TOKENS):
        return
    began = time.perf_counter()
    passes = min(PASSES, MOST / tokens, A_MINUTE * (job.settings.minutes or 10.0) / tokens)
    try:
        known = fill(encoder, job.data, passes, job.settings.seed)
    except DataError as error:
        if asked:
            raise
        job.tell(f"token table: random, for word vectors there is too little text ({error.message}).")
        return
    job.tell(
        f"token table: begins with skip-gram vectors of this corpus's own tokens ({known:,} of {encoder.vocabulary:,}, {passes:.1f} passes, "
        f"{time.perf_counter() - began:.0f} s; --word-start False begins with random ones)."
    )


def fill(encoder: TextTransformer, data, passes: float, seed: int) -> int:
    """Overwrites the rows of the tokens that occur in `data` RARE times or more; how many.  A pure function of its arguments: one thread trains."""
    from ..nets.word_fit import Fitting, Plan  # numba compiles on import

    plan = Plan(
        way="skip-gram", vocabulary=encoder.vocabulary, specials=encoder.specials, dimensions=encoder.width, min_count=RARE, epochs=passes,
        seed=random.key(seed, "token table"),
    )  # fmt: skip
    fitting = Fitting(plan, lambda: [])
    for _ in fitting.run(data, None):
        continue
    counts = torch.from_numpy(fitting.corpus.counts)
    known = counts > 0
    vectors = fitting.state["inputs"][: encoder.vocabulary, : encoder.width].double()
    share = counts.double() / counts.sum()
    centred = vectors - (vectors * share[:, None]).sum(0)
    scaled = centred * (SPREAD / centred[known].std().clamp_min(1e-12))
    with torch.no_grad():
        encoder.embedding.weight[known] = scaled[known].to(encoder.embedding.weight)
    return int(known.sum())
