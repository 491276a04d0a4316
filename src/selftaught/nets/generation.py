"""Writing on: a causal encoder and its head give one token after another, each for the price of one (a cache of keys and values).

The cache is what the blocks of nets.trunk would compute again: keys and values of every token so far, a row's own positions filled.
Legend: B rows, N tokens, K places of the cache, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, View, random
from .trunk import Blocks


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from its logits.

    temperature divides them (0: the likeliest token); top_k keeps the k likeliest, top_p the fewest likeliest that together hold the
    share p (Holtzman et al. 2020, nucleus sampling); both may be given, then the k come first.  The numbers are a function of (seed, number of
    the sample, place of the token): the same text whatever is written beside it.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature}: a finite number from 0 on")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k}: at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: above 0, at most 1")

    def choose(self, logits: Tensor, sample: Tensor, place: int) -> Tensor:
        """(B,) ids from (B, V) logits; `sample` (B,) int64 numbers the samples, `place` counts the tokens written."""
        if self.temperature == 0:
            return logits.argmax(-1)
        scaled = logits.double() / self.temperature
        order = torch.argsort(scaled, dim=-1, descending=True, stable=True)
        chance = F.softmax(scaled.gather(-1, order), -1)
        if self.top_k is not None:
            chance[:, self.top_k :] = 0
        if self.top_p is not None:
            before = chance.cumsum(-1) - chance
            chance = chance.masked_fill(before >= self.top_p * chance.sum(-1, keepdim=True), 0)
        reached = chance.cumsum(-1)
        number = random.uniform(random.key(self.seed, "generate", place), sample.cpu()).to(reached)
        at = (reached <= number[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
        return order.gather(-1, at.clamp_max(logits.shape[-1] - 1))[:, 0]


class Cache:
    """Keys and values of every block, (B, H, K, width / H) each, filled place by place; `length` (B,) tokens so far."""

    def __init__(self, blocks: Blocks, rows: int, places: int, like: Tensor):
        layers = [block.attention for block in blocks.layer]
        shape = lambda a: (rows, a.heads, places, a.out.in_features // a.heads)  # noqa: E731
        self.keys = [like.new_zeros(shape(a)) for a in layers]
        self.values = [like.new_zeros(shape(a)) for a in layers]
        self.length = torch.zeros(rows, dtype=torch.int64, device=like.device)

    def take(self, rows: Tensor) -> None:
        """Keeps these rows alone."""
        self.keys, self.values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        self.length = self.length[rows]

    def put(self, rows: Tensor, other: Cache) -> None:
        """Replaces these rows by those of `other`."""
        for mine, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine[rows] = theirs
        self.length[rows] = other.length


@torch.no_grad()
def read_on(encoder: Encoder, ids: Tensor, count: Tensor, cache: Cache) -> Tensor:
    """(B, N, D) the trunk's output for `ids` (B, N), of which each row has `count` (B,), behind what the cache holds; they join it.

    Equal to encoder.trunk(encoder.tokenize(all so far), causal=True) in these places, for the price of N tokens a row.
    """
    blocks: Blocks = encoder.blocks  # type: ignore[assignment]
    n = ids.shape[1]
    place = cache.length[:, None] + torch.arange(n, device=ids.device)
    valid = torch.arange(n, device=ids.device) < count[:, None]
    places = cache.keys[0].shape[2]
    place = place.clamp_max(places - 1)  # of padding alone: no row has more tokens than the cache places
    x = encoder.tokenize(View(encoder.modality, parts={"ids": ids, "valid": valid, "position": place})).values
    if blocks.positions is not None:
        x = x + F.embedding(place, blocks.positions.over((places,))).to(x.dtype)
    reach = int((cache.length + count).max())
    mask = (torch.arange(reach, device=ids.device) <= place[:, :, None])[:, None]
    for number, block in enumerate(blocks.layer):
        x = _block(block, x, cache.keys[number], cache.values[number], place, valid, mask)  # type: ignore[arg-type]
    cache.length = cache.length + count
    return blocks.norm(x)


def _block(block, x: Tensor, keys: Tensor, values: Tensor, place: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
    """nets.trunk.Block on new tokens that see the cache up to their own place."""
    attention = block.attention
    rows, n, width = x.shape
    q, k, v = attention.qkv(block.norm1(x)).view(rows, n, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    row, token = valid.nonzero(as_tuple=True)
    keys[row, :, place[row, token]] = k[row, :, token]
    values[row, :, place[row, token]] = v[row, :, token]
    reach = mask.shape[-1]
    mixed = F.scaled_dot_product_attention(q, keys[:, :, :reach], values[:, :, :reach], attn_mask=mask)
    x = x + attention.out(mixed.transpose(1, 2).reshape(rows, n, width))
    return x + block.contract(F.gelu(block.expand(block.norm2(x))))


def window(tokens: Sequence[int], longest: int, begin: int) -> list[int]:
    """The begin mark and the last of `tokens`, `longest` in all."""
    return [begin, *tokens[max(0, len(tokens) - longest + 1) :]]


def refill(encoder: Encoder, texts: Sequence[Sequence[int]], longest: int, begin: int) -> tuple[Cache, Tensor]:
    """A cache of `longest` tokens of each text at most (see window), and (B, D) the output at the last."""
    context: int = encoder.context  # type: ignore[assignment]
    device = next(encoder.parameters()).device
    seen = [torch.tensor(window(text, longest, begin), device=device) for text in texts]
    count = torch.tensor([len(s) for s in seen], device=device)
    cache = Cache(encoder.blocks, len(seen), context, next(encoder.parameters()))  # type: ignore[arg-type]
    hidden = read_on(encoder, nn.utils.rnn.pad_sequence(seen, batch_first=True), count, cache)
    return cache, hidden[torch.arange(len(seen), device=device), count - 1]


@torch.no_grad()
def write(
    encoder: Encoder, head: nn.Module, prompts: Sequence[Sequence[int]], *, tokens: int, sampling: Sampling,
    samples: Sequence[int], begin: int, end: int, never: Sequence[int] = (),
) -> Iterator[list[int | None]]:  # fmt: skip
    """Yields `tokens` times the next id of every prompt (ordinary ids, no marks), None behind a text's end; ends when all have.

    samples: the number of each row's sample (see Sampling).  never: ids that are not written.  A row that has filled the encoder's context
    goes on from the begin mark and the last half context, read anew: a long text costs twice a short one's price for each token, and what lies further back is
    forgotten.  encoder: of nets.trunk's blocks, in eval mode.
    """
    context: int = encoder.context  # type: ignore[assignment]
    texts, alive = [list(p) for p in prompts], list(range(len(prompts)))
    cache, hidden = refill(encoder, texts, context, begin)
    number = torch.tensor(list(samples))
    for place in range(tokens):
        logits = head(hidden).float()
        logits[:, list(never)] = -torch.inf
        new = sampling.choose(logits, number, place)
        said: list[int | None] = [None] * len(texts)
        for row, token in zip(alive, new.tolist(), strict=True):
            said[row] = token
            texts[row].append(token)
        yield said
        stay = (new != end).nonzero().flatten()
        if not len(stay):
            return
        if len(stay) < len(alive):
            cache.take(stay)
            alive, number, new = [alive[i] for i in stay.tolist()], number[stay.cpu()], new[stay]
        room = cache.length < context
        hidden = read_on(encoder, new[:, None], room.long(), cache)[:, 0]
        full = (~room).nonzero().flatten()
        if len(full):
            again, hidden[full] = refill(encoder, [texts[alive[i]] for i in full.tolist()], max(2, context // 2), begin)
            cache.put(full, again)
