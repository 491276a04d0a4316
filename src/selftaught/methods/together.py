"""Several pretext tasks at once: one encoder, a weighted sum of the methods' losses, shared views where the methods ask for equal ones.

Paper: Doersch & Zisserman, "Multi-task Self-Supervised Visual Learning", ICCV 2017 (arXiv:1708.07860); here without its separate trunks: the sum of section 3 over one network.

    selftaught pretrain PHOTOS --method together --methods simclr+rotation --weights 1,0.5

When it works: tasks that ask for different things of the same rows; continual learning: in "simclr+distil:teacher=runs/old" the old network keeps the new one from forgetting.
When it fails: tasks that pull apart (rotation asks for what simclr's mirror hides); a loss whose scale drowns the others: read them in metrics.jsonl and weigh them.
What to watch: the losses by method (`simclr loss`, `rotation loss`): each should fall as it does alone.
Cost: the sum of the methods', less the views that they share; each goes through the encoder by itself.  The recipe is the first method's.  Accumulation is refused.
Options of a method stand behind its name, as in `simclr:temperature=0.2+rotation`; of methods that form targets anew (deepcluster-v2) there can be one.
Scaled to the budget: four tasks on a ResNet-101 with 64 GPUs -> the methods that are named, each scaled as its own page says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, config, module, random
from . import find, name_of


class Together(Method):
    """A weighted sum of other methods' losses over one encoder."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Doersch & Zisserman 2017, Multi-task Self-Supervised Visual Learning"
    needs: ClassVar[frozenset[str]] = frozenset(
        {"augment", "turn"}
    )  # those of the default; an object has its own methods'
    couples_rows: ClassVar[bool] = True

    methods: str = "simclr+rotation"
    """Names of methods, joined by "+"; the first gives the recipe and what is handed over."""
    weights: str = ""
    """What each loss weighs, as in "1,0.5"; all 1 where nothing is said."""

    def __post_init__(self):
        found = [_method(text) for text in self.methods.split("+")]
        parts = {name_of(type(method)): method for method in found}
        if len(found) < 2 or len(parts) < len(found) or sum(bool(m.refresh_at) for m in found) > 1:
            said = "names one method, one twice, or two that form their targets anew"
            raise RequestError(f"methods = {self.methods!r} {said}.", "Write them as simclr+rotation.")
        self.parts = nn.ModuleDict(parts)
        self.shares = _weights(self.weights, len(found))
        self.needs = frozenset().union(*(m.needs for m in found))  # type: ignore[misc]
        self.commits = frozenset(f"{n} {c}" for n, m in parts.items() for c in m.commits)  # type: ignore[misc]
        self.refresh_at = next((m.refresh_at for m in found if m.refresh_at), ())  # type: ignore[misc]

    @property
    def encoder(self) -> Encoder:
        return next(iter(self.parts.values())).encoder  # type: ignore[return-value]

    def defaults(self, facts: Facts) -> Recipe:
        recipes = [(name, method.defaults(facts)) for name, method in self._named()]
        said = {f"{name}: {key}": text for name, recipe in recipes for key, text in recipe.scaled.items()}
        return replace(recipes[0][1], scaled=said)

    def _named(self) -> Any:
        return self.parts.items()

    def views(self, facts: Facts) -> list[ViewSpec]:
        return self._layout(facts)[0]

    def _layout(self, facts: Facts) -> tuple[list[ViewSpec], list[list[int]]]:
        """All views, and of each method which of them are its own: equal ones are made once, but never one for two of the same method."""
        specs: list[ViewSpec] = []
        places = []
        for _, method in self._named():
            own: list[int] = []
            for spec in method.views(facts):
                same = next((i for i, other in enumerate(specs) if other == spec and i not in own), None)
                own.append(len(specs) if same is None else same)
                specs += [spec] if same is None else []
            places.append(own)
        return specs, places

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        for _, method in self._named():
            method.setup(encoder, facts)
        self.places = self._layout(facts)[1]
        return self

    def notes(self) -> list[str]:
        own = [note for _, method in self._named() for note in method.notes()]
        return [f"views: {sum(map(len, self.places))} asked for, {len(set().union(*self.places))} made.", *own]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        found = []
        for k, method in enumerate(self.parts.values()):
            views, seed = [batch.views[i] for i in self.places[k]], random.key(batch.seed, "together", k)
            found.append(method(replace(batch, views=views, seed=seed)))  # each draws numbers of its own
        pairs = list(zip(self.parts, found, strict=True))
        named = {f"{n} {k}": v.detach() for n, o in pairs for k, v in o.items() if k not in ("features", "positives")}
        shared = {"features": next(o["features"] for o in found if "features" in o)}
        if all("baseline" in o for o in found):
            shared["baseline"] = _sum(self.shares, [o["baseline"] for o in found])
        return {"loss": _sum(self.shares, [o["loss"] for o in found]), **shared, **named}

    def param_groups(self) -> list[dict]:
        seen: set[int] = set()
        groups = []
        for _, method in self._named():
            for group in method.param_groups():
                fresh = [p for p in group["params"] if not (id(p) in seen or seen.add(id(p)))]  # type: ignore[func-returns-value]
                groups += [{**group, "params": fresh}] if fresh else []
        return groups

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        for name, method in self._named():
            own = {key.removeprefix(f"{name} "): value for key, value in outputs.items() if key.startswith(f"{name} ")}
            method.after_step(progress, own)

    def refresh(self, sweep: Iterable[Batch]) -> None:
        next(method for _, method in self._named() if method.refresh_at).refresh(sweep)

    def keep(self) -> Kept:
        kept = [(name, method.keep()) for name, method in self._named()]
        parts = {f"{name}-{part}": net for name, one in kept for part, net in one.parts.items()}
        encoder = kept[0][1].encoder
        ties = {f"{n}-{a}": b for n, one in kept for a, b in one.ties.items() if encoder is self.encoder}
        return Kept(encoder, parts, ties, kept[0][1].sides)


def _method(text: str) -> Method:
    """`simclr` or `simclr:temperature=0.2,hidden=128`, built."""
    name, _, rest = text.strip().partition(":")
    cls = find(name)
    if cls is Together or cls.closed_form:
        raise RequestError(f"{name!r} cannot be one of several methods.", "Name methods that learn by gradient.")
    return module.build(cls, config.assign({}, rest.split(",")) if rest else {}, name_of(cls))


def _sum(weights: list[float], losses: list[Tensor]) -> Tensor:
    return torch.stack([w * x for w, x in zip(weights, losses, strict=True)]).sum()


def _weights(text: str, count: int) -> list[float]:
    with contextlib.suppress(ValueError):
        found = [float(word) for word in text.split(",")] if text else [1.0] * count
        if len(found) == count and all(0 < w < float("inf") for w in found):
            return found
    raise RequestError(f"weights = {text!r} are not {count} positive numbers.", 'Write them as "1,0.5".')
