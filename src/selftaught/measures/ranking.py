"""Figures of rankings: of classes within a row, of rows within a class, of neighbours of a query.  NumPy in, but for what a training step logs.

Legend: N rows, K classes.
"""

import numpy as np
import torch
from torch import Tensor


def label_ranking(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) average precision of each row's classes, ordered by `scores` (N, K): 1 where those of `truth` (N, K) bool come first.

    0 for rows of no class (nothing can be ranked above the rest): leave them out.  Ties count as the worst of their places.
    Its mean over rows is scikit-learn's label_ranking_average_precision_score.  O(N K log K).
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, 1)
    hit = np.take_along_axis(np.asarray(truth, bool), order, 1)
    # A tie ends where the next score is lower: its classes all have the place of the last.
    ends = np.ones_like(hit)
    ends[:, :-1] = ranked[:, 1:] < ranked[:, :-1]
    places = np.arange(1, scores.shape[1] + 1)
    last = np.minimum.accumulate(np.where(ends, places, scores.shape[1])[:, ::-1], axis=1)[:, ::-1]
    above = np.take_along_axis(hit.cumsum(1), last - 1, 1)
    total = hit.sum(1)
    return ((above / last) * hit).sum(1) / np.maximum(total, 1)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(K,) average precision of each class over the rows, ordered by `scores` (N, K); NaN for a class of no row.

    Tied rows are one step of the curve, as in scikit-learn's average_precision_score.  O(K N log N).
    """
    out = np.full(scores.shape[1], np.nan)
    for k in range(scores.shape[1]):
        order = np.argsort(-scores[:, k], kind="stable")
        ranked, hit = scores[order, k], np.asarray(truth[order, k], bool)
        if not hit.any():
            continue
        ends = np.append(np.flatnonzero(ranked[1:] < ranked[:-1]), len(hit) - 1)
        found = hit.cumsum()[ends]
        out[k] = (np.diff(found, prepend=0) * found / (ends + 1)).sum() / found[-1]
    return out


@torch.no_grad()
def ranked_above(scores: Tensor, truth: Tensor) -> Tensor:
    """The chance that a true one of `scores` (N,) lies above a false one, ties counting half: the area under the ROC curve; 0.5 where
    `truth` (N,) bool is all one way.

    Mann & Whitney 1947; scikit-learn's roc_auc_score.  O(N log N).
    """
    positive, total = truth.sum(), truth.numel()
    negative = total - positive
    _, group, often = torch.unique(scores.double(), return_inverse=True, return_counts=True)
    rank = often.cumsum(0) - (often - 1) / 2  # the mean rank of those that tie, from 1 on
    above = (rank[group] * truth).sum() - positive * (positive + 1) / 2
    return torch.where((positive > 0) & (negative > 0), above / (positive * negative).clamp_min(1), 0.5)
