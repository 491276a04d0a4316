"""Encoder: what is trained, exported and evaluated; with the capabilities that methods ask for."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
from torch import Tensor

from . import module
from .batch import Tokens, View


class Encoder(nn.Module):
    """A view -> (B, dim).  Fields of a subclass are plain data, so that `config()` rebuilds it; layers are made in `__post_init__`.

    `can` says what else it offers: "tokens" (tokenize / trunk / pool), "mask" (trunk takes a subset of the tokens as well
    as all of them), "causal" (trunk(tokens, causal=True)), "stages" (features() gives more than one stage).
    Normalisation of the input (mean, std) belongs to the encoder, so that an export needs nothing beside it.
    """

    kind: ClassVar[str] = ""  # the name under which nets builds it
    modality: ClassVar[str] = ""
    assumed: ClassVar[tuple[str, ...]] = ()
    """What a loader had to assume of a model from elsewhere ("mean", "std"): set on the one encoder, said aloud, not saved."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        module.adopt(cls)

    def __new__(cls, *args, **kwargs):
        return module.begin(cls)

    @property
    def can(self) -> frozenset[str]:
        return frozenset()

    @property
    def dim(self) -> int:
        """Width of forward's output."""
        raise NotImplementedError

    def forward(self, view: View) -> Tensor:
        """(B, dim): the representation.  For token encoders, the pooled trunk."""
        return self.pool(self.trunk(self.tokenize(view)))

    def features(self, view: View) -> list[Tokens]:
        """The stages from input to output, each with its own grid and width: probes, detection and segmentation read this."""
        return [self.trunk(self.tokenize(view))]

    def on_canvas(self, size: tuple[int, int]) -> tuple[Encoder, tuple[int, int]]:
        """What reads whole pictures of about `size` (height, width) through `features`, and the size from there on that it takes.

        For detection and segmentation.  Default: itself, at any size.  Where an encoder is bound to one size or keeps too
        coarse a grid, a sibling with the same weights."""
        return self, size

    def tokenize(self, view: View) -> Tokens:
        """Embedded tokens, before the trunk and WITHOUT positions (the trunk adds them from `tokens.position`, so that
        tokens may be dropped, moved or replaced first).  Where the view has a part "masked" (B, N) bool, those patches are
        replaced by the encoder's learned mask token.  Only where `can` has "tokens"."""
        raise NotImplementedError

    def read(self, tokens: Tokens, chosen: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        """((M, D) the trunk's patches in the `chosen` places (B, N) bool, row by row; (B, D) a summary of each row, for alarms).

        Encoders that need not work out the other places do not; the summary is then the mean of the chosen ones."""
        done = self.trunk(tokens, causal)
        return done.patches[chosen], self.pool(done)

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        """The blocks.  `causal`: position n sees positions <= n.  `tokens.segment` isolates packed documents."""
        raise NotImplementedError

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, dim) from the trunk's tokens."""
        raise NotImplementedError

    def config(self) -> dict:
        """{"kind", "options"}: plain data from which nets.build makes the same network."""
        return {"kind": self.kind, "options": module.options(self)}

    def sibling(self, **changes) -> Encoder:
        """Another of its kind with some options changed and fresh parameters (ELECTRA's generator, a narrower teacher)."""
        return type(self)(**{**module.options(self), **changes})

    def start_from(self, view: View) -> None:
        """May set parameters from a sample of raw rows before the first step (a whitening stem); does nothing by default."""

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output in groups, for layer-wise learning rates.  Default: one group a child module."""
        groups = [list(child.parameters()) for child in self.children()]
        loose = list(self.parameters(recurse=False))
        return [g for g in [loose, *groups] if g]


class Paired(Encoder):
    """Several encoders behind one: each view goes to the one of its modality (CLIP's two towers)."""

    kind: ClassVar[str] = "paired"

    def join(self, **towers: Encoder) -> Paired:
        """Sets the towers by modality; their `dim` must agree."""
        dims = {t.dim for t in towers.values()}
        if len(dims) != 1:
            raise ValueError(f"the towers' widths differ: {sorted(dims)}; give them a projection")
        self.towers = nn.ModuleDict(towers)
        return self

    @property
    def dim(self) -> int:
        return next(iter(self.towers.values())).dim  # type: ignore[return-value]

    def forward(self, view: View) -> Tensor:
        return self.towers[view.modality](view)

    def features(self, view: View) -> list[Tokens]:
        return self.towers[view.modality].features(view)  # type: ignore[operator]

    def config(self) -> dict:
        """{"kind", "towers"}: the towers' own configs by modality."""
        return {"kind": self.kind, "towers": {name: tower.config() for name, tower in self.towers.items()}}  # type: ignore[operator]


def encode(encoder: nn.Module, views: list[View]) -> list[Tensor]:
    """(B, dim) of each view.  Neighbouring views of one shape go through together, so that multi-crop costs one pass a
    size (Caron et al. 2020, section 3.3); batch normalisation then sees them as one batch."""
    out: list[Tensor] = []
    start = 0
    for stop in range(1, len(views) + 1):
        if stop < len(views) and views[stop].shapes == views[start].shapes and None not in views[start].shapes.values():
            continue
        group = views[start:stop]
        features = encoder(View.cat(group) if len(group) > 1 else group[0])
        out += features.chunk(len(group))
        start = stop
    return out


@torch.no_grad()
def clean(encoder: nn.Module, view: View) -> Tensor:
    """(B, dim) fp32, in eval mode and without gradient; the mode is put back afterwards."""
    was = encoder.training
    encoder.eval()
    try:
        return encoder(view).float()
    finally:
        encoder.train(was)
