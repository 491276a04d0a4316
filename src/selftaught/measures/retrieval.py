"""Retrieval: how soon rows of a query's own class come up among its nearest rows.  NumPy in and out.

Legend: Q queries, N rows of the gallery, D width.
"""

import numpy as np
import torch

from .neighbours import nearest

_BLOCK = 256


def retrieve(
    queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray, held: np.ndarray, *, at: tuple[int, ...] = (1, 5, 10)
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """({figure: (Q,) value of each query}, (Q,) bool: queries whose class the gallery holds; the others are 0 and not counted).

    queries (Q, D) of classes `labels` (Q,), gallery (N, D) of classes `held` (N,); cosine similarity, exact search.  "recall@k":
    whether one of the k nearest rows is of the query's class (Jegou et al. 2011); "map@r": with R rows of that class in the gallery,
    the mean over places 1 to R of the precision there, where the row there is of the class (Musgrave et al. 2020, arXiv 2003.08505,
    section 4.1).  Memory: 256 x R.  Cost: 2 Q N D operations and the sort.
    """
    most = np.bincount(held, minlength=int(max(labels.max(), held.max())) + 1)
    wanted = most[labels]
    deepest = int(min(len(gallery), max(int(wanted.max()), *at)))
    names = [f"recall@{k}" for k in at]
    found = {name: np.zeros(len(queries)) for name in [*names, "map@r"]}
    bank = torch.from_numpy(np.ascontiguousarray(gallery, dtype=np.float32))
    for start in range(0, len(queries), _BLOCK):
        some = slice(start, start + _BLOCK)
        _, index = nearest(torch.from_numpy(np.ascontiguousarray(queries[some], dtype=np.float32)), bank, deepest)
        hit = held[index.numpy()] == labels[some, None]
        for k, name in zip(at, names, strict=True):
            found[name][some] = hit[:, :k].any(1)
        within = np.arange(deepest) < wanted[some, None]
        precision = hit.cumsum(1) / np.arange(1, deepest + 1)
        found["map@r"][some] = (precision * hit * within).sum(1) / np.maximum(wanted[some], 1)
    return found, wanted > 0
