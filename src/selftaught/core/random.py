"""Randomness as a function, not a state: every number is an integer hash of (seed, step or epoch, row, view, purpose).

So worker counts, process counts and resumption change nothing.  The integers agree on every device; floats made from
them agree but for the last bit of transcendental functions.  The hash is splitmix64 (Steele, Lea & Flood 2014).
"""

import hashlib
import math

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _MUL1, _MUL2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def key(*parts: int | str) -> int:
    """Folds integers and names into one 63-bit key; the order of the parts counts."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _shift(x: Tensor, n: int) -> Tensor:
    return (x >> n) & ((1 << (64 - n)) - 1)  # a logical shift: torch's is arithmetic


def bits(key: int, counter: Tensor) -> Tensor:
    """One well-mixed int64 for every element of `counter` (int64, any shape)."""
    x = (counter + 1) * _GOLDEN + key
    x = (x ^ _shift(x, 30)) * _MUL1
    x = (x ^ _shift(x, 27)) * _MUL2
    return x ^ _shift(x, 31)


def _counters(key: int, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape) counters: a row's own hash, then the position within the row, so that rows never overlap."""
    count = math.prod(shape)
    rows = bits(key, index.long()).view(-1, *[1] * len(shape))
    return rows + torch.arange(count, device=index.device).view(shape)


def uniform(key: int, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) float32 in [0, 1): the numbers of each row of `index` (B,), whatever rows stand beside it."""
    return _shift(bits(key ^ 0x5DEECE66D, _counters(key, index, shape)), 40).float() / (1 << 24)


def normal(key: int, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) float32 standard normal (Box-Muller)."""
    radius = torch.sqrt(-2 * torch.log1p(-uniform(key, index, shape)))
    return radius * torch.cos(2 * math.pi * uniform(key ^ 0x2545F4914F6CDD1D, index, shape))


def integers(key: int, index: Tensor, high: int, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) int64 in [0, high)."""
    return _shift(bits(key ^ 0x5DEECE66D, _counters(key, index, shape)), 1) % high


def permutation(key: int, n: int) -> Tensor:
    """(n,) int64, a permutation that is a pure function of `key`: O(n log n), 16 n bytes."""
    return torch.argsort(bits(key, torch.arange(n)), stable=True)


def permute_rows(key: int, index: Tensor, n: int) -> Tensor:
    """(B, n) int64, for each row of `index` a permutation of n of its own."""
    return torch.argsort(uniform(key, index, (n,)), dim=1, stable=True)
