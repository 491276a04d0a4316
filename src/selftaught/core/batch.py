"""View, Batch, Labelled and Tokens: what flows from the loader through a method into an encoder.

Legend of shape suffixes used throughout: B rows, N tokens, D width, C channels, H height, W width, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from . import random


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length without padding: row i is values[offsets[i]:offsets[i + 1]]."""

    values: Tensor
    offsets: Tensor  # (B + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        return self.offsets[1:] - self.offsets[:-1]

    def to(self, device, non_blocking: bool = False) -> Ragged:
        return Ragged(
            self.values.to(device, non_blocking=non_blocking), self.offsets.to(device, non_blocking=non_blocking)
        )

    def take(self, rows: Tensor) -> Ragged:
        """The rows of `rows` (int64), in that order."""
        lengths = self.lengths[rows]
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        position = torch.arange(len(owner), device=rows.device) - offsets[owner]
        return Ragged(self.values[self.offsets[rows][owner] + position], offsets)

    def pad(self, fill: float = 0, length: int | None = None) -> tuple[Tensor, Tensor]:
        """(B, L, ...) values padded with `fill` and (B, L) bool, True where there is data."""
        lengths = self.lengths
        length = int(lengths.max()) if length is None and len(self) else length or 0
        valid = torch.arange(length, device=lengths.device) < lengths[:, None]
        out = self.values.new_full((len(self), length, *self.values.shape[1:]), fill)
        if length >= (int(lengths.max()) if len(self) else 0):
            out[valid] = self.values
        else:
            row, col = valid.nonzero(as_tuple=True)
            out[row, col] = self.values[self.offsets[row] + col]
        return out, valid


@dataclass(frozen=True)
class View:
    """One way of seeing B rows.

    `parts` holds what belongs to a row and is cropped with it: images {"pixels": (B, C, H, W), uint8 or float in 0-1};
    text {"ids": (B, L) int64, "valid": (B, L) bool, optional "segment", "position"}; series {"values": (B, C, L) float,
    NaN where missing, "valid": (B, L) bool}.  Time gaps, actions and edges are parts too.  `params` holds what the view did (boxes (B, 4), flips (B,)).
    """

    modality: str
    role: str = "raw"  # "global", "local", "context", "target", ...
    parts: dict[str, Tensor | Ragged] = field(default_factory=dict)
    params: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, part: str) -> Tensor:
        return self.parts[part]  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        first = next(iter(self.parts.values()))
        return first.values.device if isinstance(first, Ragged) else first.device

    @property
    def shapes(self) -> dict[str, tuple[int, ...] | None]:
        """The shape of one row of every part; None where it is ragged.  Views of equal shapes can be joined."""
        return {k: None if isinstance(v, Ragged) else tuple(v.shape[1:]) for k, v in self.parts.items()}

    @staticmethod
    def cat(views: list[View]) -> View:
        """The rows of all views, one after the other, with the params that all have; role and modality are the first one's."""
        first = views[0]
        if any(v.shapes != first.shapes or None in v.shapes.values() for v in views):
            raise ValueError(f"views whose parts differ in shape cannot be joined: {[v.shapes for v in views]}")
        known = [k for k in first.params if all(k in v.params for v in views)]
        parts: dict[str, Tensor | Ragged] = {k: torch.cat([v[k] for v in views]) for k in first.parts}
        return replace(first, parts=parts, params={k: torch.cat([v.params[k] for v in views]) for k in known})

    def with_parts(self, **parts: Tensor) -> View:
        """A copy with some parts replaced or added."""
        return replace(self, parts={**self.parts, **parts})

    def take(self, rows: Tensor) -> View:
        """The rows of `rows` (int64 or bool), with their parts and params."""
        rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        parts = {k: v.take(rows) if isinstance(v, Ragged) else v[rows] for k, v in self.parts.items()}
        return replace(self, parts=parts, params={k: v[rows] for k, v in self.params.items()})

    def to(self, device, non_blocking: bool = False) -> View:
        move = lambda d: {k: v.to(device, non_blocking=non_blocking) for k, v in d.items()}  # noqa: E731
        return replace(self, parts=move(self.parts), params=move(self.params))


@dataclass(frozen=True)
class Draw:
    """The source of random numbers for one purpose: bound to (seed, step, view) and to each row's stable id.

    `progress` in [0, 1] is the share of the horizon that has passed, for views that grow with it.
    """

    index: Tensor  # (B,) int64, stable row ids
    seed: int = 0
    step: int = 0
    view: int = 0
    progress: float = 0.0

    def key(self, purpose: str) -> int:
        return random.key(self.seed, self.step, self.view, purpose)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        return random.uniform(self.key(purpose), self.index, shape)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32 standard normal."""
        return random.normal(self.key(purpose), self.index, shape)

    def integers(self, purpose: str, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 in [0, high)."""
        return random.integers(self.key(purpose), self.index, high, shape)

    def permutations(self, purpose: str, n: int) -> Tensor:
        """(B, n) int64: each row's own permutation."""
        return random.permute_rows(self.key(purpose), self.index, n)


@dataclass(frozen=True)
class Batch:
    """What a method's loss sees: views of the same rows, and their ids.  No labels, by type."""

    views: list[View]
    index: Tensor  # (B,) int64, stable row ids
    seed: int = 0
    step: int = 0
    progress: float = 0.0
    total: Tensor | None = None
    """Global count of targets of this optimiser step, over ranks and micro-batches, where the loop accumulates; None:
    the loss takes the count of this batch, summed over ranks (see losses.mean).  (k,) where `Method.count` gives k counts."""

    def __len__(self) -> int:
        return len(self.index)

    def draw(self, view: int = 0) -> Draw:
        """Random numbers for the loss itself (masks, negatives, turns): a purpose never shares numbers with a view's."""
        return Draw(self.index, random.key(self.seed, "method"), self.step, view, self.progress)

    def of(self, role: str) -> list[View]:
        """The views of one role, in order."""
        return [v for v in self.views if v.role == role]

    def to(self, device, non_blocking: bool = False) -> Batch:
        views = [v.to(device, non_blocking) for v in self.views]
        return replace(self, views=views, index=self.index.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Labelled(Batch):
    """A batch with targets: exists in finetune and evaluate only."""

    targets: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """What a masked, dropped or next token is to be predicted as: comes from the modality, so that one method serves all.

    kind "class": values (B, N) int64 in [0, classes); kind "value": values (B, N, P) float32, compared by squared error.
    valid (B, N) bool: False where there is nothing to predict (padding, missing observations).
    """

    kind: str
    values: Tensor
    valid: Tensor
    classes: int | None = None
    width: int = 0  # P where kind is "value"

    @property
    def outputs(self) -> int:
        """Width of the head that predicts it."""
        return self.classes if self.classes is not None else self.width


Transform = Callable[[View, Draw], View]


@dataclass(frozen=True)
class Tokens:
    """A sequence or grid of vectors; the first `prefix` are class or register tokens.

    values (B, N, D); valid (B, N) bool or None (all); position (B, N) int64 or None (patches count from 0; prefix tokens hold 0);
    segment (B, N) int64 or None: packed documents, which do not see one another; grid: (h, w), (t,), ... or None;
    extent: the grid that positions count in, which stays known when some tokens are taken; content (B, N) bool or None (all):
    tokens that say something of the row, so that begin and end marks stay out of the mean.
    """

    values: Tensor
    valid: Tensor | None = None
    position: Tensor | None = None
    segment: Tensor | None = None
    grid: tuple[int, ...] | None = None
    prefix: int = 0
    extent: tuple[int, ...] | None = None
    content: Tensor | None = None

    def __len__(self) -> int:
        return self.values.shape[1]

    @property
    def patches(self) -> Tensor:
        """(B, N - prefix, D): without the class tokens."""
        return self.values[:, self.prefix :]

    @property
    def told(self) -> Tensor:
        """(B, N - prefix) or (1, 1) bool: the patches that are content."""
        whole = torch.ones(1, 1, dtype=torch.bool, device=self.values.device)
        return whole if self.content is None else self.content[:, self.prefix :]

    @property
    def place(self) -> Tensor | None:
        """(B, N) the position of every token: as given, else restarting in every packed segment; None for simply 0, 1, 2, ..."""
        if self.position is not None or self.segment is None:
            return self.position
        count = torch.arange(len(self), device=self.segment.device).expand_as(self.segment)
        begins = torch.ones_like(self.segment, dtype=torch.bool)
        begins[:, 1:] = self.segment[:, 1:] != self.segment[:, :-1]
        begins[:, self.prefix : self.prefix + 1] = True
        return count - torch.where(begins, count, 0).cummax(1).values

    def with_values(self, values: Tensor) -> Tokens:
        return replace(self, values=values)

    def take(self, keep: Tensor) -> Tokens:
        """Keeps tokens `keep` (B, K) int64 of the patches (prefix tokens stay): positions go with them, the grid goes."""
        device, rows = keep.device, len(keep)
        head = torch.arange(self.prefix, device=device).expand(rows, -1)
        index = torch.cat([head, keep + self.prefix], 1)
        pick = lambda x: None if x is None else torch.gather(x, 1, index)  # noqa: E731
        values = torch.gather(self.values, 1, index[..., None].expand(-1, -1, self.values.shape[-1]))
        position = self.place
        if position is None:
            position = (torch.arange(len(self), device=device) - self.prefix).clamp_min(0).expand(rows, -1)
        extent = self.grid if self.grid is not None else self.extent
        return Tokens(
            values, pick(self.valid), pick(position), pick(self.segment), None, self.prefix, extent, pick(self.content)
        )

    def mean(self) -> Tensor:
        """(B, D): the mean of the valid patch tokens that are content."""
        counted = [m for m in (self.valid, self.content) if m is not None]
        if not counted:
            return self.patches.mean(1)
        weight = torch.stack(counted).all(0)[:, self.prefix :, None].to(self.values.dtype)
        return (self.patches * weight).sum(1) / weight.sum(1).clamp_min(1)
