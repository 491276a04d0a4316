"""Losses that tell an example's own views from everybody else's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import dist
from .precision import full_precision
from .reduction import mean


@full_precision
def info_nce(
    embedded: Tensor, *, temperature: float = 0.5, total: Tensor | None = None, old: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """NT-Xent over `embedded` (B, V, P), V >= 2 views of B rows: the loss, and how often the best match is a positive.

    For anchor a and each other view p of its row: -log exp(s_ap / t) / (exp(s_ap / t) + sum over k exp(s_ak / t)), with s the
    cosine and k over all views of all OTHER rows of all ranks; averaged over p, views and rows (further views of a
    row are never pushed away).  Each rank's anchors are its own rows; the others' embeddings are gathered with gradient, so
    that W ranks of B rows give one process's gradients on W B rows.  The second value, in 0-1 and without gradient, is the
    share of anchors whose most similar other embedding is a view of the same row.  `old` (Q, P), the same on every rank: further
    embeddings of others, without gradient, in every denominator.

    Raises ValueError where V < 2 or there is a single row.  Chen et al. 2020, equation 1.
    Cost: W (B V)^2 P multiply-adds and about 3 W (B V)^2 floats, and B V Q P with `old`.
    """
    rows, views, _ = embedded.shape
    if views < 2 or rows * dist.world() < 2:
        raise ValueError(f"info_nce needs two views of two rows at least, not {views} of {rows * dist.world()}")
    anchors = F.normalize(embedded, dim=-1)
    keys = dist.gather_rows(anchors).flatten(0, 1)
    scores = anchors.flatten(0, 1) @ keys.T / temperature
    own = torch.arange(rows * views, device=scores.device)
    place = own + dist.rank() * rows * views  # of the anchor among the keys
    siblings = (place // views * views)[:, None] + torch.arange(views, device=scores.device)
    positives = siblings[siblings != place[:, None]].view(-1, views - 1)
    matched = scores.gather(1, positives)
    others = scores.scatter(1, siblings, -torch.inf)
    if old is not None:
        memory = F.normalize(old.detach().to(anchors.dtype), dim=-1)
        others = torch.cat([others, anchors.flatten(0, 1) @ memory.T / temperature], 1)
    per_anchor = F.softplus(others.logsumexp(1, keepdim=True) - matched, threshold=40).mean(1)
    found = (matched.amax(1) > others.amax(1)).to(scores.dtype)
    return mean(per_anchor.view(rows, views).mean(1), total), mean(found.view(rows, views).mean(1), total)


@full_precision
def keyed_nce(
    queries: Tensor, keys: Tensor, *, temperature: float, total: Tensor | None = None, twins: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE of queries (B, P) against keys (B, P): row i's key is its positive, every other key of all ranks a negative.

    -log softmax of cosines / temperature at the own key, averaged over rows.  Keys are gathered with gradient (stop it outside where it is
    not wanted).  `twins` (B, W B) bool: rows of all ranks that are copies of row i, whose keys it is not held against (see `twin_rows`).
    The second value is the share of queries whose most similar key is their own.  van den Oord et al. 2018, equation 4.
    Cost: W B^2 P multiply-adds.
    """
    scores = F.normalize(queries, dim=-1) @ dist.gather_rows(F.normalize(keys, dim=-1)).T / temperature
    own = torch.arange(len(queries), device=scores.device) + dist.rank() * len(queries)
    if twins is not None:
        scores = scores.masked_fill(twins, -torch.inf)
    found = (scores.argmax(1) == own).to(scores.dtype)
    return mean(F.cross_entropy(scores, own, reduction="none"), total), mean(found, total)


@torch.no_grad()
def twin_rows(marks: Tensor) -> Tensor:
    """(B, W B) bool: which other rows of all ranks have the same `marks` (B, K) as row i; the row itself is not among them."""
    same = (marks[:, None] == dist.gather_rows(marks)[None]).all(-1)
    own = torch.arange(len(marks), device=marks.device)
    same[own, own + dist.rank() * len(marks)] = False
    return same


@full_precision
def queued_nce(
    queries: Tensor, keys: Tensor, old: Tensor, *, temperature: float, total: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE of queries (B, P) against their own key in `keys` (B, P) and the negatives `old` (Q, P), the same on every rank.

    -log softmax of cosines / temperature at the own key, averaged over rows; the second value is the share of queries that are more similar to
    their own key than to every old one.  He et al. 2020, equation 1.  Cost: B Q P multiply-adds.
    """
    queries, keys, old = (F.normalize(x.to(queries.dtype), dim=-1) for x in (queries, keys, old))
    scores = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ old.T], 1) / temperature
    found = (scores.argmax(1) == 0).to(scores.dtype)
    return mean(scores.logsumexp(1) - scores[:, 0], total), mean(found, total)


@full_precision
def same_or_not(asked: Tensor, other: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logistic loss of a row with its own partner (yes) and with all others of all ranks (no), half and half; and the share that is right.

    asked, other (B, P); a pair's score is their product divided by sqrt(P), plus `bias`.
    """
    others = dist.gather_rows(other)
    scores = asked @ others.T / math.sqrt(asked.shape[1]) + bias
    own = torch.zeros_like(scores, dtype=torch.bool)
    place = torch.arange(len(asked), device=scores.device)
    own[place, place + dist.rank() * len(asked)] = True
    yes, no = F.softplus(-scores[own]), F.softplus(scores).masked_fill(own, 0).sum(1) / (len(others) - 1)
    right = (scores[own] > 0).to(scores.dtype) + ((scores <= 0) & ~own).sum(1) / (len(others) - 1)
    return mean((yes + no) / 2), mean(right / 2)


@full_precision
def row_nce(
    predicted: Tensor, wanted: Tensor, codes: Tensor, valid: Tensor, negatives: Tensor, *, temperature: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE of every place of a row against other places of the same row: nats, whether it was found, and how many others it was held against.

    predicted, wanted (B, K, P); valid (B, K) bool: the places that are there; negatives (B, K, N) int64: which others each is held against.  Cosines /
    temperature; an other whose `codes` (B, K) int64 are the place's own is the same thing and no negative.  Each result is (B, K), 0 where there is
    nothing; a place with no other left loses nothing, which says nothing of it.  Gradients reach `wanted` too.  Baevski et al. 2020, equation 3.
    Cost: B K (K P + N) multiply-adds; no vector is ever copied to stand beside each of its negatives.
    """
    scores = F.normalize(predicted, dim=-1) @ F.normalize(wanted, dim=-1).transpose(1, 2) / temperature
    own = scores.diagonal(dim1=1, dim2=2)
    same = codes.gather(1, negatives.flatten(1)).view_as(negatives) == codes[..., None]
    others = scores.gather(2, negatives).masked_fill(same, -torch.inf)
    nats = torch.cat([own[..., None], others], 2).logsumexp(2) - own
    left = (~same).sum(2) * valid
    found = (own > others.amax(2)) & (left > 0)
    return torch.where(valid, nats, 0.0), found.to(nats.dtype), left.to(nats.dtype)
