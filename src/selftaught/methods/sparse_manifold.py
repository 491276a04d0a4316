"""Sparse manifold transform: patches coded by the dictionary atoms they resemble, codes embedded so that an image's patches come close.

Paper: Chen, Yun, Ma, Olshausen & LeCun, "Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform", ICLR
2023 (arXiv:2209.15261).  With the whole image as context its objective is one generalised eigenproblem, E[h h'] u = value E[c c'] u, between
the second moments of images' mean codes h and of single codes c.  No gradient, no augmentation, one pass.

When it works: photographs and drawings of things in the middle, from 8 pixels a side; on a processor it is ahead of gradient methods for the first
hour or so; few rows are enough.
When it fails: what is told by large shapes rather than by which small patches lie where; things anywhere in the picture (cells are
fixed places); long budgets: it does not get better with more time.  Its linear read-out lags behind its neighbours.

Cost: about 3e-9 s x patches x atoms on one core: 60,000 pictures of 32 pixels take about 240 core-seconds with the preset quick, 440 with
full, fit and embedding of all included.  Peak memory 1.7 GB, with best 2.1 GB.

Scaled to the budget: stride 1 -> 2 (quick); 8,192 atoms -> 2,048 (4,096 with best); all pictures -> 20,000 in the fit and 15 patches of each
in E[c c']; one linear projection of all cells to 512 or 1,024 numbers, turned at random.  Added to the paper: a second dictionary on grey 9 x 9 patches; for
pictures under 16 pixels, a place among up to 2,000 landmarks by eigenmaps of their neighbour graph (Belkin & Niyogi 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import ClosedForm, Facts, Kept, RequestError, random
from ..measures import moments
from ..nets.patch_fit import Plan, State, assembled, dictionary, embedding, fitted_scale, moments_of, plans_for

PRESETS = ("quick", "full", "best")


class SparseManifold(ClosedForm):
    """The sparse manifold transform in closed form."""

    paper: ClassVar[str] = "Chen et al. 2023, Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform"  # fmt: skip
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
        *self.size, self.channels = facts.modality.shape
        preset: str = self.preset
        if preset == "auto":
            budget = 60 * (4 if facts.minutes is None else facts.minutes) * torch.get_num_threads()
            preset = [p for p in PRESETS if p == "quick" or self.seconds(p) <= budget][-1]
        self.plans, self.core_seconds = self.rule(preset), self.seconds(preset)
        if any(p.atoms % 32 or p.atoms < p.skip + p.width for p in self.plans):
            raise RequestError(f"atoms = {self.atoms} is not accepted.", "Give a multiple of 32 from 288 on.")
        if not all(p.positions(self.size, 1) for p in self.plans):
            raise RequestError(f"patch = {self.patch} does not fit.", f"Pictures have {min(self.size)} pixels a side.")
        if self.fit_images < 2 or min(self.floor, self.ridge) <= 0 or (self.outputs or 0) < 0:
            raise RequestError("fit_images must be at least 2, floor and ridge above 0, outputs not negative.")
        few = min(self.rows, self.fit_images)
        self.small = len(self.plans) == 1
        wanted = self.outputs if self.outputs is not None else 0 if self.small else 512 if preset == "quick" else 1024
        self.axes = max(0, min(wanted, few - 1))
        return self

    def rule(self, preset: str) -> list[Plan]:
        """The scales for these data, with the options that were given."""
        first, *others = plans_for(tuple(self.size), self.channels, self.rows, preset)
        plans = [replace(first, patch=self.patch or first.patch), *others]
        return [replace(p, atoms=self.atoms or p.atoms) for p in plans]

    def seconds(self, preset: str) -> float:
        """Core-seconds of the fit and the embedding of all rows, estimated."""
        few = min(self.rows, self.fit_images)
        return 30 + sum(plan.seconds(tuple(self.size), self.rows, few) for plan in self.rule(preset))

    def fit(self, data, state: State | None) -> Iterator[tuple[State, float]]:
        """Step after step, each a pure function of the state before it; "done" in the state counts them."""
        self.state = dict(state) if state else {"done": torch.tensor(0)}
        steps = self._steps(data)
        for number in range(int(self.state["done"]), len(steps)):
            self.state = {**steps[number](self.state), "done": torch.tensor(number + 1)}
            yield dict(self.state), (number + 1) / len(steps)

    def finish(self) -> Kept:
        return Kept(assembled(self.plans, self.size, self.channels, self.state))

    def _steps(self, data) -> list[Callable[[State], State]]:
        rows = random.permutation(random.key(self.seed, "rows"), len(data))[: self.fit_images]
        steps: list[Callable[[State], State]] = []
        for i, plan in enumerate(self.plans):
            steps.append(partial(self._dictionary, data, i))
            some = rows.split(plan.images_at_once(self.size))
            steps += [partial(self._count, data, i, images, len(rows)) for images in some]
            steps.append(partial(self._solve, i, len(rows)))
        seen = rows[: 2000 if self.small else 5000 if self.axes else 0]
        looks = [partial(self._look, data, some) for some in seen.split(256)]
        return [*steps, *looks, self._last] if len(seen) else steps

    def _dictionary(self, data, i: int, state: State) -> State:
        key = random.key(self.seed, "scale", i)
        found = dictionary(data, self.plans[i], self.size, self.channels, floor=self.floor, key=key)
        return {**state, **{f"scales.{i}.{name}": value for name, value in found.items()}}

    def _count(self, data, i: int, rows: Tensor, images: int, state: State) -> State:
        plan, key = self.plans[i], random.key(self.seed, "pairs", i)
        scale = fitted_scale(self.plans, i, self.size, self.channels, state)
        between, pairs = moments_of(data, plan, scale, rows, plan.pairs(self.size, images), key)
        return {**state, "between": state.get("between", 0) + between, "pairs": state.get("pairs", 0) + pairs}

    def _solve(self, i: int, images: int, state: State) -> State:
        plan, state = self.plans[i], dict(state)
        between, pairs = state.pop("between"), state.pop("pairs")
        patches = images * plan.pairs(self.size, images)
        fitted = embedding(between, pairs, plan, images=images, patches=patches, ridge=self.ridge)
        return {**state, f"scales.{i}.embedding": fitted}

    def _look(self, data, rows: Tensor, state: State) -> State:
        encoder = assembled(self.plans, self.size, self.channels, state)
        cells = encoder.cells_of(data.fetch(rows)["pixels"]).half()
        return {**state, "cells": torch.cat([state["cells"], cells]) if "cells" in state else cells}

    def _last(self, state: State) -> State:
        """The principal axes, and for small pictures the landmarks."""
        cells = state["cells"].float()
        state = {k: v for k, v in state.items() if k != "cells"}
        if self.axes:
            state["mean"], axes = moments.principal_axes(cells, self.axes, power=0.25)
            # Turned: whoever standardises each number, as linear probes do, would else blow the smallest axes up to the largest.
            turn = moments.rotation(axes.shape[1], random.key(self.seed, "turn"))
            state["axes"] = (axes.double() @ turn).float().contiguous()
        if self.small:
            state["places"] = assembled(self.plans, self.size, self.channels, state).finish(cells)
            state["charts"] = moments.eigenmaps(state["places"], min(16, len(cells) - 1), neighbours=7)
        return state
