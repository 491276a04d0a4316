"""Near-duplicate pictures without an encoder: a cheap descriptor finds candidates, an alignment of thumbnails judges them.

Found are copies that were re-encoded, resized, mirrored, or cropped down to about 0.72 of the side.  The descriptor
(blurred grey and colour) of each whole picture is compared, mirrored too, with those of nine crops of every other; the best
few are aligned over scales and places, and are the same picture where the detail correlates and the colours agree.
"""

from __future__ import annotations

from collections.abc import Callable

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
_DETAIL, _AGREE, _FOLLOW, _FAR, _TINT = 1.5, 0.8, 0.9, 18.0, 10.0
_CLOSE, _CLOSE_TINT, _CLOSER, _WHOLE = 6.0, 7.0, 4.0, 30


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


def _resized(x: Tensor, side: int) -> Tensor:
    if side == x.shape[-1]:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _describe(x: Tensor) -> Tensor:
    """(B, 112): 8 x 8 grey without its mean, 4 x 4 of each colour's difference from grey."""
    grey = _grey(x)
    blurred = F.adaptive_avg_pool2d(grey[:, None], 8).flatten(1)
    tint = F.adaptive_avg_pool2d(x - grey[:, None], 4).flatten(1)
    return torch.cat([blurred - blurred.mean(1, keepdim=True), tint], 1)


def _crop(x: Tensor, box: tuple[float, float, float]) -> Tensor:
    top, left, side = (round(v * SIDE) for v in box)
    return _resized(x[:, :, top : top + side, left : left + side], SIDE)


def _describe_all(thumbs: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([_describe(change(part.float())) for part in thumbs.split(1024)])


def candidates(a: Tensor, b: Tensor | None, k: int = 3, queries: Tensor | None = None) -> np.ndarray:
    """(n, 2) int64 pairs (row of a, row of b) worth an alignment; b None: pairs within a, smaller row first.

    a, b: thumbnails (N, 3, SIDE, SIDE) uint8; k: candidates of each picture; queries: rows of `a` that are asked (default: all).
    Costs about 2,000 multiply-adds a pair of pictures.
    """
    found = _search(a, a if b is None else b, k, queries, same=b is None)
    if b is not None and queries is None:
        found = np.concatenate([found, _search(b, a, k, None, same=False)[:, ::-1]])
    if b is None:
        found = np.sort(found, 1)
    return np.unique(found, axis=0)


def _search(a: Tensor, b: Tensor, k: int, queries: Tensor | None, *, same: bool) -> np.ndarray:
    asked = torch.arange(len(a)) if queries is None else queries
    plain = _describe_all(a[asked], lambda x: x)
    middle = plain.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov((plain[:20_000] - middle).T))
    axes = vectors[:, -_WIDTH:]
    index = [(_describe_all(b, lambda x, box=box: _crop(x, box)) - middle) @ axes for box in _BOXES]  # type: ignore[misc]
    index = [torch.cat([v, -v.pow(2).sum(1, keepdim=True) / 2], 1).T.contiguous() for v in index]
    faces = [plain, _describe_all(a[asked], lambda x: x.flip(-1))]
    faces = [F.pad((v - middle) @ axes, (0, 1), value=1.0) for v in faces]
    pairs = []
    block = max(16, min(1024, (1 << 24) // max(1, len(b))))
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        best = torch.full((len(rows), len(b)), -torch.inf)
        for face in faces:
            for columns in index:  # larger means nearer: q.d - |d|^2 / 2
                torch.maximum(best, face[start : start + block] @ columns, out=best)
        if same:
            best[torch.arange(len(rows)), rows] = -torch.inf
        near = best.topk(min(k, best.shape[1] - same), 1).indices
        pairs.append(torch.stack([rows[:, None].expand_as(near), near], -1).reshape(-1, 2))
    return torch.cat(pairs).numpy() if pairs else np.empty((0, 2), np.int64)


def same_picture(a: Tensor, b: Tensor, pairs: np.ndarray) -> np.ndarray:
    """(n,) float32 scores in 0-1 of pairs of thumbnails; above 0.5 they are the same picture.

    Each picture of a pair may be the crop, and may be mirrored.  About 2 million multiply-adds a pair.
    """
    scores = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        part = torch.from_numpy(np.ascontiguousarray(pairs[start : start + _BLOCK]))
        first, second = a[part[:, 0]].float(), b[part[:, 1]].float()
        best = torch.zeros(len(part))
        for whole, crop in ((first, second), (second, first)):
            for face in (crop, crop.flip(-1)):
                best = torch.maximum(best, _judge(face, *_align(face, whole)))
        scores[start : start + _BLOCK] = best.numpy()
    return scores


def _align(crop: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """(best window of `whole` for each side of the crop, resized to SIDE; side of the best), by the mean squared difference in grey."""
    rows = torch.arange(len(whole))
    grey = _grey(whole)
    least, windows, sides = torch.full((len(whole),), torch.inf), whole.clone(), torch.full((len(whole),), SIDE)
    energy = F.pad(grey.pow(2).cumsum(1).cumsum(2), (1, 0, 1, 0))
    for side in range(SIDE, _SMALLEST - 1, -1):
        small = _grey(_resized(crop, side))
        places = SIDE - side + 1
        dot = F.conv2d(grey[None], small[:, None], groups=len(grey))[0].flatten(1)
        held = energy[:, side:, side:] - energy[:, :-side, side:] - energy[:, side:, :-side] + energy[:, :-side, :-side]
        apart = (small.pow(2).sum((1, 2))[:, None] + held.flatten(1) - 2 * dot) / side**2
        value, place = apart.min(1)
        better = rows[value < least - 1e-3]
        if not len(better):
            continue
        least[better], sides[better] = value[better], side
        span = torch.arange(side)
        y, x = place[better] // places, place[better] % places
        cut = whole[better[:, None, None], :, (y[:, None] + span)[:, :, None], (x[:, None] + span)[:, None]]
        windows[better] = _resized(cut.permute(0, 3, 1, 2), SIDE)
    return windows, sides


def _detail(grey: Tensor) -> Tensor:
    """What a 5 x 5 blur takes away, without the margin."""
    return (grey - F.avg_pool2d(grey[:, None], 5, 1, 2)[:, 0])[:, 2:-2, 2:-2].flatten(1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-3)


def _judge(crop: Tensor, window: Tensor, side: Tensor) -> Tensor:
    """(B,) scores: 0.5 to 1 where the detail correlates and colours agree, or both are smooth and nearly equal."""
    blurred = torch.stack([_resized(_resized(c[None], int(s)), SIDE)[0] for c, s in zip(crop, side, strict=True)])
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
    likeness = (1 - apart / 255).clamp(0, 1)
    return torch.where(same, 0.5 + likeness / 2, likeness / 2)
