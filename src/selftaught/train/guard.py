"""What continuing did to a pretrained encoder, without labels: rank, collapse and kept neighbours on fixed clean rows, start against end.

A warning, not a verdict: features may move far and be better for it.  `evaluate` says with labels whether they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import measures
from ..core import Draw, Encoder, clean, random
from ..nets import norm, store
from . import starts

if TYPE_CHECKING:
    from .job import Job

ROWS, ENOUGH, BLOCK = 512, 128, 64
NEIGHBOURS = 10
RANK_KEPT = 0.5
"""Below this share of the start's effective rank, directions were lost."""
FORGOTTEN = 0.1
"""How far the kept neighbours may fall towards those that a network without any training shares with the start (0) from all (1)."""


def guard(job: Job, encoder: Encoder) -> dict[str, Any]:
    """The figures of `compare` for the run's start and `encoder`, with "rows", "seen_in_training" and "warnings", said aloud.

    Rows: up to 512 of those that `holdout` keeps from training, else of the training rows, drawn by the seed.  Cost: three forward
    passes over them (start, end, untrained).
    """
    held = job.held is not None and len(job.held) >= ENOUGH
    data = job.held if held else job.data
    rows = torch.sort(random.permutation(random.key(job.settings.seed, "guard"), len(data))[:ROWS]).values
    start = store.load_encoder(job.run.folder / starts.FOLDER)
    start_features, end_features = (_features(job, e, data, rows) for e in (start, encoder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random.key(job.settings.seed, "guard"))
        fresh = start.sibling().to(job.device)
    figures = compare(start_features, end_features, _features(job, fresh, data, rows, recalibrated=True))
    warnings = worries(figures)
    for text in warnings:
        job.tell(f"WARNING {text}")
    return {"rows": len(rows), "seen_in_training": not held, **figures, "warnings": warnings}


def _features(job: Job, encoder: Encoder, data, rows: Tensor, *, recalibrated: bool = False) -> Tensor:
    """(N, D) of clean views, in eval mode; `recalibrated`: normalisation statistics are worked out on these rows first."""
    plain = data.modality.plain(job.facts)
    ids = torch.from_numpy(data.ids)
    views = [plain(data.fetch(some), Draw(ids[some])).to(job.device) for some in rows.split(BLOCK)]
    encoder = encoder.to(job.device)
    if recalibrated:
        with torch.no_grad():
            norm.recalibrate(encoder, [view for view in views if len(view) > 1])
    return torch.cat([clean(encoder, view).cpu() for view in views])


def compare(start: Tensor, end: Tensor, fresh: Tensor) -> dict[str, Any]:
    """Label-free figures of three sets of features (N, D), (N, E), (N, F) of the same rows.

    "neighbours_kept": share of each row's 10 nearest neighbours (cosine) under `start` that are among its 10 under `end`;
    "neighbours_untrained": the same of `fresh`, a network without training: what is left when all is forgotten; "effective_rank" of
    centred features, "dead_dimensions" and "mean_cosine", each (start, end).
    """
    k = min(NEIGHBOURS, len(start) - 1)
    pairs = {
        "effective_rank": lambda x: measures.effective_rank(x, centred=True),
        "dead_dimensions": measures.dead_dimensions,
        "mean_cosine": measures.mean_cosine,
    }
    return {
        "neighbours": k,
        "neighbours_kept": round(kept(start, end, k), 4),
        "neighbours_untrained": round(kept(start, fresh, k), 4),
        **{name: [round(measure(x), 4) for x in (start, end)] for name, measure in pairs.items()},
    }


def kept(first: Tensor, second: Tensor, k: int) -> float:
    """The mean share of a row's `k` nearest neighbours among `first` (N, D) that are its neighbours among `second` (N, E) too."""
    (_, a), (_, b) = (measures.nearest(x, x, k, exclude_self=True) for x in (first, second))
    return float((a[:, :, None] == b[:, None, :]).any(2).float().mean())


def worries(figures: dict[str, Any]) -> list[str]:
    """What of the figures is worth a warning, in words; empty where nothing is."""
    found = []
    (rank, end_rank), (dead, end_dead) = figures["effective_rank"], figures["dead_dimensions"]
    cosine, end_cosine = figures["mean_cosine"]
    if end_rank < 1.5 <= rank or end_dead > 0.9 >= dead or end_cosine > 0.999 >= cosine:
        found.append(
            f"collapse: different rows get nearly the same features, which they did not at the start (effective rank {rank:.1f} -> {end_rank:.1f}, "
            f"dead dimensions {dead:.0%} -> {end_dead:.0%}, mean cosine {cosine:.3f} -> {end_cosine:.3f})."
        )
    elif end_rank < RANK_KEPT * rank:
        found.append(
            f"rank: the features use fewer directions than at the start (effective rank {rank:.1f} -> {end_rank:.1f})."
        )
    share, floor = figures["neighbours_kept"], figures["neighbours_untrained"]
    if share < floor + FORGOTTEN * (1 - floor):
        found.append(
            f"forgotten: of each row's {figures['neighbours']} nearest neighbours at the start, {share:.0%} are left; a network without any training "
            f"shares {floor:.0%}. Little is left of what the start knew."
        )
    if found:
        found[-1] += (
            " Without labels nobody knows whether that hurt: `selftaught evaluate` sets the run beside its start. A lower rate "
            "(--set recipe.encoder_rate=0.1), fewer steps or more varied data keep more."
        )
    return found
