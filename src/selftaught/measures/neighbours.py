"""Nearest neighbours by cosine: search in blocks, kNN classification and regression, recall of one's own other view.

Everything takes and gives torch tensors; similarities are computed in float32.  Legend: Q queries, N rows of the bank,
D width, K neighbours, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _unit(x_ND: Tensor) -> Tensor:
    return F.normalize(x_ND.detach().float(), dim=1)


@torch.no_grad()
def nearest(queries: Tensor, bank: Tensor, k: int, *, exclude_self: bool = False, block: int = 4096):
    """The `k` most similar rows of `bank` (N, D) to each of `queries` (Q, D): (similarity (Q, K), index (Q, K) int64).

    Cosine similarity, best first.  `exclude_self`: queries are the bank itself, and a row is not its own neighbour.
    Memory: one `block` x `block` tile at a time, whatever Q and N are.  Cost: 2 Q N D operations.
    Raises ValueError where there are fewer than `k` rows to choose from.
    """
    rows = len(bank) - int(exclude_self)
    if not 1 <= k <= rows:
        raise ValueError(f"k = {k} neighbours asked for, but there are {rows} rows to choose from")
    if exclude_self and len(queries) != len(bank):
        raise ValueError("exclude_self needs the queries to be the bank itself")
    queries, bank = _unit(queries), _unit(bank)
    similarity = queries.new_full((len(queries), k), -torch.inf)
    index = torch.zeros((len(queries), k), dtype=torch.int64, device=queries.device)
    for q in range(0, len(queries), block):
        rows_q = slice(q, min(q + block, len(queries)))
        best, where = similarity[rows_q], index[rows_q]
        for start in range(0, len(bank), block):
            tile = queries[rows_q] @ bank[start : start + block].T
            if exclude_self:
                own = torch.arange(rows_q.start, rows_q.stop, device=tile.device)
                here = (own >= start) & (own < start + tile.shape[1])
                tile[here, own[here] - start] = -torch.inf
            values, columns = tile.topk(min(k, tile.shape[1]), dim=1)
            values, columns = torch.cat([best, values], 1), torch.cat([where, columns + start], 1)
            best, order = values.topk(k, dim=1)
            where = columns.gather(1, order)
        similarity[rows_q], index[rows_q] = best, where
    return similarity, index


def knn_classify(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, *, k: int = 20, temperature: float = 0.07,
    exclude_self: bool = False, block: int = 4096,
) -> Tensor:  # fmt: skip
    """(Q, C) class scores that sum to 1: each neighbour votes for its class with weight exp(cosine / temperature).

    `labels` (N,) int64 in [0, classes).  `k` is cut to the size of the bank.  Source: Wu et al. 2018 (arXiv 1805.01978),
    section 3.4; k = 20 and temperature = 0.07 as DINO and DINOv2 report them.
    """
    k = min(k, len(bank) - int(exclude_self))
    similarity, index = nearest(queries, bank, k, exclude_self=exclude_self, block=block)
    weight = torch.softmax(similarity / temperature, dim=1)
    scores = weight.new_zeros((len(queries), classes))
    return scores.scatter_add_(1, labels.to(index.device)[index], weight)


def knn_regress(
    queries: Tensor, bank: Tensor, values: Tensor, *, k: int = 20, temperature: float = 0.07,
    exclude_self: bool = False, block: int = 4096,
) -> Tensor:  # fmt: skip
    """(Q, ...) the mean of the neighbours' `values` (N, ...), weighted by exp(cosine / temperature)."""
    k = min(k, len(bank) - int(exclude_self))
    similarity, index = nearest(queries, bank, k, exclude_self=exclude_self, block=block)
    weight, values = torch.softmax(similarity / temperature, dim=1), values.to(index.device, torch.float32)
    if values.ndim == 1:
        return (weight * values[index]).sum(1)
    some = zip(weight.split(block), index.split(block), strict=True)
    return torch.cat([torch.einsum("qk,qk...->q...", w, values[i]) for w, i in some])


def view_recall(first: Tensor, second: Tensor, *, block: int = 4096) -> float:
    """Share of rows whose nearest neighbour among `second` (N, D) is their own other view; `first` (N, D) row by row.

    1 / N by chance.  Says what the encoder ignores between the views, which may be what a task needs.
    """
    _, index = nearest(first, second, 1, block=block)
    own = torch.arange(len(first), device=index.device)
    return float((index[:, 0] == own).float().mean())
