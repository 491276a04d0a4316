"""An encoder read at all of its stages at once: a mixture of them, whose shares are learned with the task (SUPERB's way)."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, ModelError, RequestError, Tokens, View, module
from . import store

SPEED = 10.0
"""What the learned numbers are multiplied with before the softmax, so that shares move in hundreds of steps at a head's rate."""


class WeightedStages(Encoder):
    """View -> (B, dim): the stages' tokens, each layer-normalised, averaged over time or place, and mixed by softmax shares.

    Stages of one width are summed (Yang et al. 2021, SUPERB, section 3.2); stages of several widths stand side by side, each times its share.
    Layer-normalised, since later stages of a residual trunk are larger, and shares would then say how large a stage is rather than how useful.
    Built empty, then joined: WeightedStages.around(inner, a view).  Its config holds that of the inner encoder.
    """

    kind: ClassVar[str] = "weighted-stages"

    widths: tuple[int, ...] = ()
    """Of the inner encoder's stages."""

    @classmethod
    def around(cls, inner: Encoder, view: View) -> Self:
        """The mixture of the stages that `inner` gives for `view`; RequestError where there is one alone."""
        if "stages" not in inner.can:
            raise RequestError(f"{inner.kind} has one stage alone: nothing can be mixed.", "Leave --pool weighted out.")
        was = inner.training
        inner.eval()
        with torch.no_grad():
            widths = tuple(stage.values.shape[2] for stage in inner.features(view))
        inner.train(was)
        return cls(widths=widths).join(inner)  # type: ignore[call-arg]

    def join(self, inner: Encoder) -> Self:
        """Takes the encoder."""
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"stages of widths {self.widths} are no mixture")
        self.inner = inner
        self.modality = inner.modality  # type: ignore[misc]  # that of whatever stands inside
        self.reads = getattr(inner, "reads", "")
        self.mixture = nn.Parameter(torch.zeros(len(self.widths)))
        return self

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def alike(self) -> bool:
        """Whether all stages are of one width, so that they are summed."""
        return len(set(self.widths)) == 1

    @property
    def dim(self) -> int:
        return self.widths[0] if self.alike else sum(self.widths)

    @property
    def weights(self) -> Tensor:
        """(stages,) shares that add up to 1."""
        return (SPEED * self.mixture.float()).softmax(0)

    def shares(self) -> list[float]:
        """The share of every stage, from the input on."""
        return [round(v, 6) for v in self.weights.detach().double().tolist()]

    def always_train(self) -> list[nn.Parameter]:
        """What a head over the frozen encoder trains along with itself."""
        return [self.mixture]

    def mixed(self, stages: list[Tensor]) -> Tensor:
        """(..., dim) of the stages' (..., width) vectors."""
        shares = self.weights.to(stages[0].dtype)
        parts = [share * stage for share, stage in zip(shares, stages, strict=True)]
        return torch.stack(parts).sum(0) if self.alike else torch.cat(parts, -1)

    def normalised(self, view: View) -> list[Tokens]:
        """The inner stages, each token layer-normalised."""
        return [s.with_values(F.layer_norm(s.values, s.values.shape[2:])) for s in self.inner.features(view)]

    def means(self, view: View) -> list[Tensor]:
        """(B, width) of every stage: the mean of its tokens."""
        return [stage.mean() for stage in self.normalised(view)]

    def forward(self, view: View) -> Tensor:
        return self.mixed(self.means(view))

    def features(self, view: View) -> list[Tokens]:
        """The inner stages, normalised, and behind them the mixture of their tokens; RequestError where their grids differ."""
        stages = self.normalised(view)
        if len({stage.values.shape[1] for stage in stages}) > 1:
            raise RequestError(
                f"The stages of {self.inner.kind} have grids of their own: their tokens cannot be mixed.",
                "Leave --pool weighted out.",
            )
        return [*stages, stages[-1].with_values(self.mixed([s.values for s in stages]))]

    def config(self) -> dict:
        """{"kind", "options", "encoder": the inner one's config}."""
        return {"kind": self.kind, "options": {"widths": list(self.widths)}, "encoder": self.inner.config()}

    def sibling(self, **changes) -> WeightedStages:
        """The same with fresh parameters inside, and equal shares."""
        return type(self)(**{"widths": self.widths, **changes}).join(self.inner.sibling())

    def start_from(self, view: View) -> None:
        self.inner.start_from(view)

    def layers(self) -> list[list[nn.Parameter]]:
        return [*self.inner.layers(), [self.mixture]]

    def portable_state(self) -> dict[str, Tensor]:
        """The inner encoder's tensors under the names that it saves them with, and the mixture."""
        inner = {f"inner.{name}": tensor for name, tensor in store.state_of(self.inner).items()}
        return {"mixture": self.mixture.detach(), **inner}

    def take_portable(self, state: dict[str, Tensor]) -> None:
        """Takes what `portable_state` gave."""
        with torch.no_grad():
            self.mixture.copy_(state["mixture"])
        own = {name.removeprefix("inner."): t for name, t in state.items() if name.startswith("inner.")}
        store.fill(self.inner, own)


def rebuild(config: dict, inner: Encoder) -> WeightedStages:
    """The mixture of a config around `inner`; ModelError where the options are none."""
    options = config.get("options")
    if not isinstance(options, dict):
        raise ModelError("The config of weighted stages has no options.")
    return module.build(WeightedStages, options, "an encoder of weighted stages").join(inner)
