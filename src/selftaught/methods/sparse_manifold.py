"""Sparse manifold transform: patches coded by the dictionary atoms they resemble, codes embedded so that an image's patches come close.

Paper: Chen, Yun, Ma, Olshausen & LeCun, "Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform", ICLR
2023 (arXiv:2209.15261).  With the whole image as context its objective is one generalised eigenproblem, E[h h'] u = value E[c c'] u, between
the second moments of images' mean codes h and of single codes c.  No gradient, no augmentation, one pass.

When it works: photographs and drawings of things in the middle, from 8 pixels a side; on a processor it is ahead of gradient methods for the first
hour or so; few rows are enough.
When it fails: what is told by large shapes rather than by which small patches lie where; things anywhere in the picture (cells are
fixed places); long budgets: it does not get better with more time.  Its linear read-out lags behind its neighbours (CIFAR-10:
67 % against 73 %).

Cost: about 3e-9 s x patches x atoms on one core: 60,000 pictures of 32 pixels take 214 core-seconds with the preset quick, 413 with full, fit
and embedding of all included.  About 0.6 GB while fitting.

Scaled to the budget: stride 1 -> 2 (quick); 8,192 atoms -> 2,048 (4,096 with best); all pictures -> 20,000 in the fit and 15 patches of each
in E[c c']; one linear projection of all cells to 512 or 1,024 numbers.  Added to the paper: a second dictionary on grey 9 x 9 patches; for
pictures under 16 pixels, a place among up to 2,000 landmarks by eigenmaps of their neighbour graph (Belkin & Niyogi 2003).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import ClosedForm, Facts, Kept, RequestError, random
from ..measures import moments
from ..nets.patch_code import PatchCode
from ..nets.patch_fit import Plan, dictionary, embedding, moments_of

PRESETS = ("quick", "full", "best")
State = dict[str, Tensor]


class SparseManifold(ClosedForm):
    """The sparse manifold transform in closed form."""

    paper: ClassVar[str] = "Chen et al. 2023, Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform"
    aliases: ClassVar[tuple[str, ...]] = ("smt",)
    needs: ClassVar[frozenset[str]] = frozenset({"patches"})

    preset: Literal["auto", "quick", "full", "best"] = "auto"
    """quick: every second patch; full: every patch of the first scale; best: every patch, and 4,096 atoms; auto: the best that fits the
    data's fit and embedding into the minutes (4 where none are said)."""
    atoms: int | None = None
    """Size of each dictionary, a multiple of 32; None: by the number of rows and the preset."""
    patch: int | None = None
    """Side of the first scale's patches in pixels; None: by the picture's side."""
    outputs: int | None = None
    """Principal axes kept; None: by the preset."""
    fit_images: int = 20_000
    """Rows in the fit; of larger sets a random sample."""
    floor: float = 0.043
    """Whitening tolerance as a share of the mean eigenvalue."""
    ridge: float = 1e-2
    """Added to the moments of codes, as a share of their mean diagonal."""

    def prepare(self, facts: Facts, seed: int) -> Self:
        self.seed, self.rows = seed, facts.rows
        height, width, self.channels = facts.modality.shape
        self.size = (height, width)
        preset = self.preset
        if preset == "auto":
            budget = 60 * (4 if facts.minutes is None else facts.minutes) * torch.get_num_threads()
            fitting = [p for p in PRESETS if self.seconds(p) <= budget]
            preset = fitting[-1] if fitting else "quick"
        self.plans, self.axes, self.landmarks = self.rule(preset)
        return self

    def rule(self, preset: str) -> tuple[list[Plan], int, int]:
        """The scales, the number of axes and of landmarks for these data."""
        few = min(self.rows, self.fit_images)
        side, fine = min(self.size), math.isqrt(1200 // min(1200, self.channels))  # at most 1,200 numbers in a patch
        if side < 16:
            plan = Plan(zoom=2, patch=min(8, fine, 2 * side), stride=1, atoms=512, width=16, fit_stride=1, density=0.03, skip=0)
            plans, axes, landmarks = [plan], 0, min(few, 2000)
        else:
            shrink = max(1, round(side / 36))
            atoms = 2048 if self.rows >= 5000 else 1024
            plan = Plan(zoom=-shrink if shrink > 1 else 1, patch=min(6, fine), stride=1 + (preset == "quick"), atoms=atoms)
            grey = replace(plan, patch=9, stride=1 + (preset != "best"), grey=True, density=0.009)
            plan = replace(plan, atoms=2 * atoms) if preset == "best" else plan
            plans, landmarks = [plan, grey], 0
            axes = min(512 if preset == "quick" else 1024, few - 1)
        plans[0] = replace(plans[0], patch=self.patch or plans[0].patch)
        plans = [replace(p, atoms=self.atoms or p.atoms) for p in plans]
        if any(p.atoms % 32 or p.atoms < p.skip + p.width for p in plans):
            raise RequestError(f"atoms = {self.atoms} is not accepted.", "Give a multiple of 32 from 288 on.")
        return plans, axes if self.outputs is None else min(self.outputs, few - 1), landmarks

    def seconds(self, preset: str) -> float:
        """Core-seconds of fit and embedding of all rows, estimated: 3 ns a patch and atom, and the eigenproblems."""
        plans, axes, _ = self.rule(preset)
        coded = sum(p.atoms * (p.positions(self.size, p.stride) * (self.rows + 5000) + p.positions(self.size, p.fit_stride) * min(self.rows, self.fit_images)) for p in plans)  # fmt: skip
        return 3e-9 * coded + 6e-10 * sum(p.atoms**3 for p in plans) + 0.02 * axes

    def fit(self, data, state: State | None) -> Iterator[tuple[State, float]]:
        """Step after step, each a pure function of the state before it; the state's "done" counts them."""
        self.state = dict(state) if state else {"done": torch.tensor(0)}
        steps = self._steps(data)
        for number in range(int(self.state["done"]), len(steps)):
            made, dropped = steps[number](self.state)
            self.state = {k: v for k, v in self.state.items() if k not in dropped} | made
            self.state["done"] = torch.tensor(number + 1)
            yield dict(self.state), (number + 1) / len(steps)

    def finish(self) -> Kept:
        return Kept(self._encoder(self.state))

    def _steps(self, data) -> list[Callable[[State], tuple[State, set[str]]]]:
        rows = random.permutation(random.key(self.seed, "rows"), len(data))[: self.fit_images]
        steps: list = []
        for i, plan in enumerate(self.plans):
            steps.append(lambda state, i=i: (self._dictionary(data, i), set()))
            at_once = max(16, 60_000 // plan.positions(self.size, plan.fit_stride))
            steps += [lambda state, i=i, some=some: (self._count(data, i, some, len(rows), state), set()) for some in rows.split(at_once)]  # fmt: skip
            steps.append(lambda state, i=i: (self._solve(i, len(rows), state), {f"{i}.between", f"{i}.pairs"}))
        seen = rows[: self.landmarks or (5000 if self.axes else 0)]
        steps += [lambda state, some=some: (self._look(data, some, state), set()) for some in seen.split(256)]
        return [*steps, lambda state: (self._last(state), {"cells"})] if len(seen) else steps
