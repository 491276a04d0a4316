"""Which stage of a network is read out: every one probed at the verdict's budget, the best chosen on validation rows.

Encoders trained to predict or to rebuild their input serve that in their last stages, and peak before them (Zhang et al. 2016, fig. 5;
Kolesnikov et al. 2019, fig. 3; Chen et al. 2020, Generative pretraining from pixels, fig. 2): read at the end alone, they are undersold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Encoder
from .embed import Layer, embed, embed_layers
from .probe import Features, Probed, probe
from .protocol import Budget
from .statistics import Groups, interval

PEAK_BEFORE_THE_END = ("predictive", "generative")
"""Families of methods whose runs are read at every stage where nothing else is asked for."""


@dataclass
class Stages:
    """Of one arm: the scores at the verdict's budget by stage, one `Probed` a seed; "last" is what `encoder(view)` gives."""

    seeds: list[dict[Layer, Probed]]
    budget: Budget

    def __post_init__(self):
        self.validation = {
            layer: float(np.mean([one[layer].validation[self.budget] for one in self.seeds])) for layer in self.seeds[0]
        }
        self.chosen: Layer = max(self.validation, key=lambda layer: self.validation[layer])
        """The best on validation rows, over all seeds; the last where they tie."""

    def joined(self, layer: Layer) -> Probed:
        """All seeds at one stage."""
        first, *others = (one[layer] for one in self.seeds)
        total = Probed(dict(first.scores), dict(first.validation))
        for one in others:
            total.join(one)
        return total


def probe_stages(work, encoder: Encoder) -> dict[Layer, Probed]:
    """Scores of one network at the verdict's budget: "last" first, then the stages from the input on."""
    problem, rows = work.problem, work.verdict_rows()
    settings: dict[str, Any] = {"batch": work.batch, "device": work.device, "listener": work.listener}
    pools = [embed(encoder, problem.pool, rows=rows, **settings)]
    tests = [embed(encoder, problem.test, **settings)]
    layers: list[Layer] = ["last"]
    if "stages" in encoder.can:
        pools += embed_layers(encoder, problem.pool, rows=rows, **settings)
        tests += embed_layers(encoder, problem.test, **settings)
        layers += list(range(len(tests) - 1))
    found: dict[Layer, Probed] = {}
    for k, layer in enumerate(layers):
        if (
            k == len(layers) - 1
            and k
            and tests[k].shape == tests[0].shape
            and np.allclose(tests[k], tests[0], atol=1e-5)
        ):
            found[layer] = found["last"]  # most encoders' representation is their last stage
            continue
        features = Features(work.whole(pools[k], rows), tests[k])
        found[layer] = probe(
            problem, features, work.verdict_draws(), full=work.at == "all", extra=False, seed=work.seed
        )
    return found


def told(arms: dict[str, Stages], at: Budget, groups: Groups, metric: str, seed: int) -> dict[str, Any]:
    """What `--json` holds under "stages": every stage with its validation and test score, and by how much the chosen one leads."""
    rows = [
        {
            "features": name, "layer": layer, "validation": round(value, 6),
            "mean": round(one.joined(layer).scores["linear", at].mean, 6), "chosen": layer == one.chosen,
        }
        for name, one in arms.items()
        for layer, value in one.validation.items()
    ]  # fmt: skip
    ours = arms["pretrained"]
    gap = interval(
        ours.joined(ours.chosen).scores["linear", at].minus(ours.joined("last").scores["linear", at]), groups, seed=seed
    )
    found = {"mean": round(gap.mean, 6), "low": round(gap.low, 6), "high": round(gap.high, 6)}
    return {"rows": rows, "over_last": found, "sentence": _sentence(ours, metric, found)}


def _sentence(ours: Stages, metric: str, gap: dict[str, float]) -> str:
    count = len(ours.validation) - 1
    last = ours.validation["last"]
    if ours.chosen == "last":
        return f"Of {count} stages and the representation, the representation reads best on validation rows ({metric} {last:.3f})."
    return (
        f"Of {count} stages, stage {ours.chosen} reads best on validation rows ({metric} {ours.validation[ours.chosen]:.3f}, the representation "
        f"{last:.3f}); on test rows it is {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}] from the representation. "
        f"Take it with: selftaught embed --layer {ours.chosen}."
    )


def in_words(layer: Layer) -> str:
    """For the verdict's sentence."""
    return "" if layer == "last" else f" (read at stage {layer}, chosen on validation)"
