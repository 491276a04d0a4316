"""Near-duplicate pictures without an encoder: a cheap descriptor finds candidates, an alignment of thumbnails judges them.

Found are copies that were re-encoded, resized, mirrored, or cropped down to about 0.72 of the side.  The descriptor
(blurred grey and colour) of each whole picture is compared, mirrored too, with those of nine crops of every other; the best
few are aligned over scales and places, and are the same picture where the detail correlates and the colours agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32
"""Pixels of a thumbnail's side."""
_SMALLEST = 23
"""Side, in a thumbnail, of the smallest crop that is looked for."""
_WIDTH = 48
"""Dimensions of a descriptor after PCA."""
_BOXES = [(0.0, 0.0, 1.0)] + [(y, x, 0.8) for y in (0.0, 0.1, 0.2) for x in (0.0, 0.1, 0.2)]
_GREY = (0.299, 0.587, 0.114)
_BLOCK = 128

# Thresholds in grey levels of 0-255, measured on generated pictures and CIFAR-10 (tests/data/test_duplicates.py).
_APART = 18.0
_DETAIL, _AGREE, _FOLLOW, _FAR, _TINT = 1.5, 0.8, 0.9, 18.0, 10.0
_CLOSE, _CLOSE_TINT, _CLOSER, _WHOLE = 6.0, 7.0, 4.0, 30
_BOTH, _BOTH_AGREE, _BOTH_FOLLOW, _BOTH_TINT = (
    8.0,
    0.5,
    0.75,
    4.0,
)  # a whole picture, coarsely re-encoded: each a little less, all at once


def thumbnails(pixels: Tensor) -> Tensor:
    """(B, 3, SIDE, SIDE) uint8 of pictures (B, C, H, W) uint8: areas averaged, grey repeated."""
    x = pixels[:, :3].float()
    x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :1].expand(-1, 3, -1, -1) if x.shape[1] == 2 else x
    if min(x.shape[-2:]) >= SIDE:
        x = F.adaptive_avg_pool2d(x, SIDE)
    else:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return x.round().to(torch.uint8)


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_GREY)[:, None, None]).sum(1)


def _describe(x: Tensor) -> Tensor:
    """(B, 112): 8 x 8 grey without its mean, 4 x 4 of each colour's difference from grey."""
    grey = _grey(x)
    blurred = F.adaptive_avg_pool2d(grey[:, None], 8).flatten(1)
    tint = F.adaptive_avg_pool2d(x - grey[:, None], 4).flatten(1)
    return torch.cat([blurred - blurred.mean(1, keepdim=True), tint], 1)


def _crop(x: Tensor, *, box: tuple[float, float, float]) -> Tensor:
    top, left, side = (round(v * SIDE) for v in box)
    return _resized(x[:, :, top : top + side, left : left + side], SIDE)


def describe(thumbs: Tensor, *, mirrored: bool = False) -> Tensor:
    """(N, 112) float32: coarse light and colour of whole thumbnails, in which re-encoded pictures lie close."""
    return _describe_all(thumbs, (lambda x: x.flip(-1)) if mirrored else (lambda x: x))


def _describe_all(thumbs: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([_describe(change(part.float())) for part in thumbs.split(1024)])


@dataclass(frozen=True)
class Candidates:
    """Pairs worth an alignment, as (n,) rows: `crop` (of a) may be a window of `whole` (of b), after a flip where `mirrored`."""

    crop: np.ndarray
    whole: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.crop)


def candidates(a: Tensor, b: Tensor | None = None, k: int = 3, queries: Tensor | None = None) -> Candidates:
    """For each picture of a (or `queries`, rows of a) the k of b that it most looks like a window of; b None: of a's others.

    a, b: thumbnails (N, 3, SIDE, SIDE) uint8.  Costs about 1,000 multiply-adds a pair of pictures.
    """
    same, b = b is None, a if b is None else b
    asked = torch.arange(len(a)) if queries is None else queries
    plain = _describe_all(a[asked], lambda x: x)
    both = torch.cat([plain[:10_000], _describe_all(b[:10_000], lambda x: x)])
    middle = both.mean(0)
    axes = torch.linalg.eigh((both - middle).T @ (both - middle))[1][:, -_WIDTH:]
    index = [(_describe_all(b, partial(_crop, box=box)) - middle) @ axes for box in _BOXES]
    index = [torch.cat([v, -v.pow(2).sum(1, keepdim=True) / 2], 1).T.contiguous() for v in index]
    faces = [(v - middle) @ axes for v in (plain, _describe_all(a[asked], lambda x: x.flip(-1)))]
    found = []
    block = max(16, min(1024, (1 << 24) // max(1, len(b))))
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        for mirrored, face in enumerate(faces):
            near, distance = _nearest(face[start : start + block], index, k, rows if same else None)
            keep = distance <= _APART**2 * (8 * 8 + 3 * 4 * 4)
            found.append(torch.stack([rows[:, None].expand_as(near), near, torch.full_like(near, mirrored)], -1)[keep])
    joined = torch.cat(found).numpy() if found else np.empty((0, 3), np.int64)
    return Candidates(joined[:, 0], joined[:, 1], joined[:, 2].astype(bool))


def _nearest(face: Tensor, index: list[Tensor], k: int, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """((Q, k) nearest rows, their squared distances), over all crops of the index; `itself`: a row to leave out of each query's."""
    asked = F.pad(face, (0, 1), value=1.0)
    best = asked @ index[0]  # q.d - |d|^2 / 2: larger means nearer
    for columns in index[1:]:
        torch.maximum(best, asked @ columns, out=best)
    if itself is not None:
        best[torch.arange(len(best)), itself] = -torch.inf
    value, near = best.topk(min(k, best.shape[1] - (itself is not None)), 1)
    return near, (face.pow(2).sum(1, keepdim=True) - 2 * value).clamp_min(0)


def judge(a: Tensor, b: Tensor, found: Candidates) -> np.ndarray:
    """(n,) float32 scores in 0-1 of candidates; above 0.5 they are the same picture.  About 1 million multiply-adds each."""
    scores = np.zeros(len(found), np.float32)
    for start in range(0, len(found), _BLOCK):
        part = slice(start, start + _BLOCK)
        crop, whole = a[torch.from_numpy(found.crop[part])].float(), b[torch.from_numpy(found.whole[part])].float()
        mirrored = torch.from_numpy(found.mirrored[part])
        crop = torch.where(mirrored[:, None, None, None], crop.flip(-1), crop)
        scores[part] = _score(crop, *_align(crop, whole)).numpy()
    return scores


def same_picture(a: Tensor, b: Tensor, pairs: np.ndarray) -> np.ndarray:
    """(n,) float32 scores in 0-1 of pairs (row of a, row of b), wherever they came from; above 0.5 they are the same picture.

    Either may be a window of the other, mirrored or not.
    """
    best = np.zeros(len(pairs), np.float32)
    first, second = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    for flip in (False, True):
        mirrored = np.full(len(pairs), flip)
        np.maximum(best, judge(a, b, Candidates(first, second, mirrored)), out=best)
        np.maximum(best, judge(b, a, Candidates(second, first, mirrored)), out=best)
    return best


@cache
def _scaling(side: int, to: int) -> Tensor:
    """(to, side) weights with which a line of `side` pixels is resized to `to`, antialiased."""
    line = torch.eye(side)[None, None]
    return F.interpolate(line, size=(to, side), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _resized(x: Tensor, to: int) -> Tensor:
    if to == x.shape[-1]:
        return x
    weights = _scaling(x.shape[-1], to)
    return weights @ x @ weights.T


def _align(crop: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """(the window of each `whole` that is most like its crop, resized to SIDE; the window's side), by mean squares in grey."""
    grey, asked = _grey(whole), _grey(crop)
    spectrum = torch.fft.rfft2(grey)
    energy = F.pad(grey.pow(2).cumsum(1).cumsum(2), (1, 0, 1, 0))
    least = torch.full((len(whole),), torch.inf)
    sides, places = torch.full((len(whole),), SIDE), torch.zeros(len(whole), dtype=torch.int64)
    for side in range(SIDE, _SMALLEST - 1, -1):
        small = _resized(asked, side)
        free = SIDE - side + 1
        template = torch.fft.rfft2(small, s=(SIDE, SIDE)).conj()
        dot = torch.fft.irfft2(spectrum * template, s=(SIDE, SIDE))[:, :free, :free].flatten(1)
        held = energy[:, side:, side:] - energy[:, :-side, side:] - energy[:, side:, :-side] + energy[:, :-side, :-side]
        apart = (small.pow(2).sum((1, 2))[:, None] + held.flatten(1) - 2 * dot) / side**2
        value, place = apart.min(1)
        better = value < least - 1e-3
        least, places = torch.where(better, value, least), torch.where(better, place, places)
        sides[better] = side
    windows = whole.clone()
    for side in sides.unique().tolist():
        rows = (sides == side).nonzero().flatten()
        span, free = torch.arange(side), SIDE - side + 1
        y, x = (places[rows] // free)[:, None] + span, (places[rows] % free)[:, None] + span
        cut = whole[rows[:, None, None], :, y[:, :, None], x[:, None]].permute(0, 3, 1, 2)
        windows[rows] = _resized(cut, SIDE)
    return windows, sides


def _detail(grey: Tensor) -> Tensor:
    """What a 5 x 5 blur takes away, without the margin."""
    return (grey - F.avg_pool2d(grey[:, None], 5, 1, 2)[:, 0])[:, 2:-2, 2:-2].flatten(1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-3)


def _score(crop: Tensor, window: Tensor, side: Tensor) -> Tensor:
    """(B,) scores: 0.5 to 1 where the detail correlates and colours agree, or both are smooth and nearly equal."""
    blurred = torch.empty_like(crop)
    for held in side.unique().tolist():  # as blurred as the window is that was resized
        blurred[side == held] = _resized(_resized(crop[side == held], held), SIDE)
    a, b = _grey(blurred), _grey(window)
    apart = (a - b).pow(2).mean((1, 2)).sqrt()
    tint = F.adaptive_avg_pool2d((blurred - a[:, None]) - (window - b[:, None]), 4).pow(2).mean((1, 2, 3)).sqrt()
    fine_a, fine_b = _detail(a), _detail(b)
    agree, follow = _correlation(fine_a, fine_b), _correlation(a.flatten(1), b.flatten(1))
    detailed = torch.minimum(fine_a.std(1), fine_b.std(1)) >= _DETAIL
    same = detailed & (agree >= _AGREE) & (follow >= _FOLLOW) & (apart <= _FAR) & (tint <= _TINT)
    close = torch.where(side >= _WHOLE, _CLOSE, _CLOSER)
    close_tint = torch.where(side >= _WHOLE, _CLOSE_TINT, _CLOSER)
    flat = b.flatten(1).std(1) < 3
    same |= (apart <= close) & (tint <= close_tint) & ((follow >= _FOLLOW) | flat)
    same |= (
        (side >= _WHOLE) & (apart <= _BOTH) & (tint <= _BOTH_TINT) & (agree >= _BOTH_AGREE) & (follow >= _BOTH_FOLLOW)
    )
    likeness = (1 - apart / 255).clamp(0, 1)
    return torch.where(same, 0.5 + likeness / 2, likeness / 2)
