"""Writing a text token by token: greedily, or with beams (batched, over a model that remembers what it computed)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .seq2seq import END, Writing


@dataclass(frozen=True)
class Written:
    """One answer: ids without marks, the sum of the log-probabilities of its `tokens` tokens (its end mark counts), and its score."""

    ids: list[int]
    nats: float
    tokens: int
    score: float


@torch.no_grad()
def search(
    writing: Writing, *, longest: int, beams: int = 1, length_penalty: float = 1.0, specials: int = 4, vocabulary: int | None = None
) -> list[Written]:  # fmt: skip
    """The best answer of every row that `beams` beams find, of at most `longest` tokens, the end mark included.

    Score: log-probability / tokens ** length_penalty (Wu et al. 2016 without coverage; transformers' rule).  A row is done once as many answers have
    ended as there are beams and none that goes on scores better as it stands.  One beam is greedy: the likeliest token each time, until the end
    mark.  Never written: ids below `specials` but the end mark, and ids from `vocabulary` on.  Cost: `longest` steps of rows x beams tokens.
    """
    if beams < 1 or longest < 1:
        raise ValueError(f"beams {beams} and longest {longest} must be at least 1")
    said = _likely(writing.begin(), specials, vocabulary)
    count, device = len(said), said.device
    alive = torch.arange(count, device=device)
    total = torch.zeros(count, 1, device=device, dtype=said.dtype)
    ids = torch.zeros(count, 1, 0, dtype=torch.int64, device=device)
    ended: list[list[Written]] = [[] for _ in range(count)]
    for length in range(1, longest + 1):
        size = said.shape[-1]
        scores, at = (total[..., None] + said).flatten(1).topk(min(2 * beams, said.shape[1] * size), dim=1)
        beam, token = at // size, at % size
        over = token == END
        _collect(ended, alive, ids, scores, beam, over, beams, length, length_penalty)
        order = torch.argsort(over.long(), dim=1, stable=True)[:, : min(beams, scores.shape[1] - 1)]
        scores = scores.masked_fill(over, -torch.inf)  # where a small vocabulary leaves nothing else to go on with
        total, beam, token = (x.gather(1, order) for x in (scores, beam, token))
        ids = torch.cat([ids.gather(1, beam[..., None].expand(-1, -1, ids.shape[2])), token[..., None]], 2)
        if length == longest:
            for k, row in enumerate(alive.tolist()):
                for one, nats in zip(ids[k].tolist(), total[k].tolist()):
                    _add(ended[row], one, nats, length, length_penalty, beams)
            break
        best = (total[:, 0] / length**length_penalty).tolist()
        keep = [k for k, row in enumerate(alive.tolist()) if not _done(ended[row], best[k], beams)]
        if not keep:
            break
        rows = torch.tensor(keep, device=device)
        alive, total, ids, beam = alive[rows], total[rows], ids[rows], beam[rows]
        writing.take(rows, beam)
        said = _likely(writing.step(token[rows]), specials, vocabulary)
    return [max(found, key=lambda one: one.score) for found in ended]


def _likely(logits: Tensor, specials: int, vocabulary: int | None) -> Tensor:
    """Log-probabilities in fp32 at least; minus infinity for what is never written."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    said = wide.log_softmax(-1)
    said[..., [i for i in range(specials) if i != END]] = -torch.inf
    if vocabulary is not None:
        said[..., vocabulary:] = -torch.inf
    return said


def _collect(
    ended: list[list[Written]], alive: Tensor, ids: Tensor, scores: Tensor, beam: Tensor, over: Tensor, beams: int, length: int, penalty: float
) -> None:  # fmt: skip
    """Takes answers whose end mark is among the best `beams` continuations."""
    rows, places = over[:, :beams].nonzero(as_tuple=True)
    for k, place in zip(rows.tolist(), places.tolist()):
        own = ids[k, beam[k, place]].tolist()
        _add(ended[int(alive[k])], own, float(scores[k, place]), length, penalty, beams)


def _add(found: list[Written], ids: list[int], nats: float, tokens: int, penalty: float, beams: int) -> None:
    if nats == -torch.inf and found:
        return
    found.append(Written(ids, nats, tokens, nats / tokens**penalty))
    found.sort(key=lambda one: -one.score)
    del found[beams:]


def _done(found: list[Written], best: float, beams: int) -> bool:
    return len(found) >= beams and (beams == 1 or best <= found[-1].score)
