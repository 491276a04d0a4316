"""What fits one scale of a patch code: sampled patches, whitening filters, dictionary, threshold, moments of the codes, embedding.

Functions of rows and keys alone: the same numbers whatever was worked out before, so that a fit can stop and go on anywhere.  They take
`data.fetch(index) -> View` in pieces, so that hardly more than a hundred megabytes are held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import random
from ..measures import moments
from .patch_code import FLAT, SCALE, PatchCode, Scale

State = dict[str, Tensor]
"""What is fitted so far, under the names that the encoder's tensors have ("scales.0.atoms"), and sums beside it."""
AT_ONCE = 60_000
"""Patches that are coded between two states of a fit: a third of a second on one core."""
_FETCHED = 1 << 24  # pixels held at once as floats


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one scale is fitted and used: see the options of PatchCode and of the method."""

    shrink: int = 1
    pad: int = 0
    patch: int = 6
    stride: int = 2
    grey: bool = False
    atoms: int = 2048
    width: int = 256
    cells: int = 4
    fit_stride: int = 2
    density: float = 0.028
    """Share of the atoms in a code, on average."""
    keep: float = 0.97
    """Share of the whitened variance that the filters keep."""
    skip: int = 16
    """Leading eigenvectors left out: they say how much there is in a patch, not what."""

    def positions(self, size: tuple[int, int], stride: int) -> int:
        """Patches of one image; 0 where they do not fit."""
        sides = [s // self.shrink + 2 * self.pad for s in size]
        return math.prod(max(0, (s - self.patch) // stride + 1) for s in sides)

    def images_at_once(self, size: tuple[int, int]) -> int:
        """Images coded between two states of a fit."""
        return max(16, AT_ONCE // self.positions(size, self.fit_stride))

    def pairs(self, size: tuple[int, int], images: int) -> int:
        """Patches of each image whose codes enter E[c c'], 300,000 in all."""
        return min(self.positions(size, self.fit_stride), -(-300_000 // images))

    def seconds(self, size: tuple[int, int], rows: int, fitted: int) -> float:
        """Core-seconds, estimated: 3 ns a patch and atom for `fitted` images and the embedding of `rows`; the eigenproblem."""
        patches = self.positions(size, self.stride) * rows + self.positions(size, self.fit_stride) * fitted
        return 3e-9 * self.atoms * patches + 6e-10 * self.atoms**3


def plans_for(size: tuple[int, int], channels: int, rows: int, preset: str) -> list[Plan]:
    """One or two scales by rule.

    Measured at 8 x 8 x 1 (under 16 pixels: one scale, a border of 2) and at 32 x 32 x 3 (colour and grey); larger pictures are averaged
    down to about 36 pixels, many channels get smaller patches (at most 1,200 numbers).
    """
    side, largest = min(size), math.isqrt(1200 // min(1200, channels))
    if side < 16:
        return [Plan(pad=2, patch=min(5, largest), stride=1, fit_stride=1, atoms=512, width=16, density=0.03, skip=0)]
    shrink, atoms = max(1, round(side / 36)), 2048 if rows >= 5000 else 1024
    first = Plan(
        shrink=shrink, patch=min(6, largest), stride=2 if preset == "quick" else 1,
        atoms=2 * atoms if preset == "best" else atoms,
    )  # fmt: skip
    grey = replace(first, patch=9, stride=1 if preset == "best" else 2, grey=True, atoms=atoms, density=0.009)
    return [first, grey]


def assembled(plans: Sequence[Plan], size: tuple[int, int], channels: int, state: State) -> PatchCode:
    """The encoder of what `state` holds, in eval mode; scales that are not fitted yet are left out, global randomness is left alone."""
    known = [p for i, p in enumerate(plans) if f"scales.{i}.filters" in state]
    options = {name: tuple(getattr(p, name) for p in known) for name in SCALE if name != "filters"}
    charts, axes = state.get("charts"), state.get("axes")
    with torch.random.fork_rng(devices=[]):
        encoder = PatchCode(
            size=size, channels=channels, filters=tuple(len(state[f"scales.{i}.filters"]) for i in range(len(known))),
            outputs=0 if axes is None else axes.shape[1], landmarks=0 if charts is None else len(charts),
            coordinates=16 if charts is None else charts.shape[1], **options,
        )  # fmt: skip
    own = encoder.state_dict()
    encoder.load_state_dict({name: state.get(name, tensor) for name, tensor in own.items()})
    return encoder.eval()


def fitted_scale(plans: Sequence[Plan], i: int, size: tuple[int, int], channels: int, state: State) -> Scale:
    """Scale i of the encoder that `state` holds so far."""
    return assembled(plans, size, channels, state).scales[i]  # type: ignore[return-value]


def pieces(rows: Tensor, pixels: int) -> list[Tensor]:
    """`rows` in pieces that may be held as floats at `pixels` numbers a row."""
    return list(rows.split(max(1, _FETCHED // pixels)))


def sampled_patches(data, scale: Scale, rows: Tensor, per: int, key: int) -> Tensor:
    """(len(rows) x per, D) float32 patches in 0-255 at places of each row's own, drawn with replacement."""
    first, found = data.fetch(rows[:1])["pixels"], []
    order = torch.arange(len(rows))
    for piece in pieces(order, first[0].numel()):
        x = scale.look(data.fetch(rows[piece])["pixels"])
        windows = x.unfold(2, scale.patch, 1).unfold(3, scale.patch, 1)  # (n, c, h, w, patch, patch), a view
        y, z = (random.integers(random.key(key, axis), piece, windows.shape[axis], (per,)) for axis in (2, 3))
        found.append(windows[torch.arange(len(piece))[:, None], :, y, z].flatten(0, 1).flatten(1))
    return torch.cat(found)


def dictionary(data, plan: Plan, size: tuple[int, int], channels: int, *, floor: float, key: int) -> State:
    """{"filters", "atoms", "threshold"} of one scale.

    Filters whiten up to 100,000 patches of up to 4,000 rows; atoms are single whitened patches of as many random rows as there are atoms
    (again from the first where rows are fewer), random directions in place of flat ones; the threshold lets `density` of
    the cosines between about 4,000 other patches and the atoms through.
    """
    from .patch_kernel import unit_rows

    blank = {"scales.0.filters": torch.zeros(8, (1 if plan.grey else channels) * plan.patch**2)}
    scale = fitted_scale([plan], 0, size, channels, blank)
    numbers = scale.planes * plan.patch**2
    rows = random.permutation(random.key(key, "whiten"), len(data))[:4000]
    per = min(plan.positions(size, 1), max(1, min(100_000, 20_000_000 // numbers) // len(rows)))
    sample = sampled_patches(data, scale, rows, per, random.key(key, "places"))
    filters = moments.whitening(sample, keep=plan.keep, floor=floor)
    order = random.permutation(random.key(key, "atoms"), len(data))
    chosen = order[torch.arange(plan.atoms) % len(order)]
    atoms = sampled_patches(data, scale, chosen, 1, random.key(key, "atom places")) @ filters.T
    unit_rows(atoms.numpy(), FLAT)
    flat = atoms.square().sum(1) < 0.5
    directions = random.normal(random.key(key, "directions"), torch.arange(plan.atoms), (len(filters),))
    atoms = torch.where(flat[:, None], F.normalize(directions, dim=1), atoms)
    z = sampled_patches(data, scale, rows, max(1, 4000 // len(rows)), random.key(key, "others")) @ filters.T
    unit_rows(z.numpy(), FLAT)
    cosines = (z[:8000] @ atoms.T).flatten()
    above = max(1, int(plan.density * len(cosines)))
    threshold = cosines.kthvalue(len(cosines) - above + 1).values.clamp_min(1e-3)
    return {"filters": filters, "atoms": atoms, "threshold": threshold}


def moments_of(data, plan: Plan, scale: Scale, rows: Tensor, per: int, key: int) -> tuple[Tensor, Tensor]:
    """Sums over `rows` at the plan's fit stride: (A, A) float32 of h h', h the mean code of an image; (A, A) int32, upper triangle, of c c'
    over `per` random patches of each image (all where it has no more)."""
    from . import patch_kernel

    total = np.zeros((plan.atoms, plan.atoms), np.int32)
    between = torch.zeros(plan.atoms, plan.atoms)
    bank = scale.bank(plan.fit_stride)
    pixels = data.fetch(rows[:1])["pixels"][0].numel()
    for piece in pieces(rows, pixels):
        images = scale.look(data.fetch(piece)["pixels"]).contiguous().numpy()
        counts, lists = patch_kernel.codes(images, bank)
        places = random.permute_rows(random.key(key, "pairs"), piece, counts.shape[1])[:, :per].sort(1).values.numpy()
        mean = np.zeros((len(images), plan.atoms), np.float32)
        for i, listed in enumerate(lists):
            mean[i] = np.bincount(listed, minlength=plan.atoms) / np.float32(counts.shape[1])
            ends = np.concatenate([[0], np.cumsum(counts[i])])
            taken = np.concatenate([listed[ends[p] : ends[p + 1]] for p in places[i]])
            patch_kernel.add_pairs(counts[i, places[i]], taken, total)
        h = torch.from_numpy(mean)
        between += h.T @ h
    return between, torch.from_numpy(total)


def embedding(between: Tensor, pairs: Tensor, plan: Plan, *, images: int, patches: int, ridge: float) -> Tensor:
    """(A, width) int8: the generalised eigenvectors of E[h h'] against E[c c'] after the first `skip`, rounded to integers."""
    upper = pairs.float() / patches
    total = upper + upper.triu(1).T
    _, vectors = moments.generalised_eigenvectors(between / images, total, plan.skip + plan.width, ridge=ridge)
    return moments.quantised(vectors[:, plan.skip :].contiguous())
