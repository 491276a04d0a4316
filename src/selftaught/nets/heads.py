"""Small modules that stand between an encoder and a loss: projectors, predictors, prototypes.

Each has `config()`, so that a saved folder can build it again (see store).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Target
from .norm import BatchNorm1d

Norm = Literal["batch", "layer", "none"]


class Linear(nn.Linear):
    """nn.Linear that a saved folder can build again: (..., inputs) -> (..., outputs)."""

    def config(self) -> dict:
        options = {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}
        return {"kind": "linear", "options": options}


class LanguageHead(nn.Linear):
    """The head of a language model: (..., width) -> (..., vocabulary) logits; its `weight` may be an encoder's embedding.

    predicts "own": the token in its own place, as BERT's head does it: dense layer, GELU, layer norm, then the vocabulary with a
    bias (Devlin et al. 2019; transformers' lm_head of RoBERTa's kin).  predicts "next": the token that follows, by the vocabulary alone,
    without a bias (Radford et al. 2019; transformers' GPT2LMHeadModel).  `inner` is the width of the vocabulary's vectors where
    the dense layer leads from another width to it (ELECTRA's generator).  What a folder holds thus says what its head predicts.
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        *,
        predicts: Literal["own", "next"],
        eps: float = 1e-5,
        inner: int | None = None,
    ):
        if predicts not in ("own", "next") or (predicts == "next" and inner not in (None, width)):
            raise ValueError(
                f"a head that predicts {predicts!r} from {width} to {inner} numbers; accepted: 'own', 'next'"
            )
        super().__init__(inner or width, vocabulary, bias=predicts == "own")
        nn.init.normal_(self.weight, std=0.02)
        self.options = {"width": width, "vocabulary": vocabulary, "predicts": predicts, "eps": eps, "inner": inner}
        self.predicts = predicts
        if predicts == "own":
            nn.init.zeros_(self.bias)
            self.dense = nn.Linear(width, inner or width)
            self.norm = nn.LayerNorm(inner or width, eps=eps)
            nn.init.normal_(self.dense.weight, std=0.02)
            nn.init.zeros_(self.dense.bias)

    def before(self, x: Tensor) -> Tensor:
        """What the vocabulary's layer reads, (..., inner): losses take it from here without holding all logits."""
        return self.norm(F.gelu(self.dense(x))) if self.predicts == "own" else x

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.before(x))

    def config(self) -> dict:
        return {"kind": "language-head", "options": self.options}


class MLP(nn.Sequential):
    """Projector or predictor: (B, sizes[0]) -> (B, sizes[-1]), with normalisation and ReLU between the layers.

    `norm` stands before each ReLU ("batch": over all processes; its layers then have no bias); `last` puts one, without
    scale and shift, behind the last layer too (SimCLR v2, MoCo v3, SimSiam).  sizes (512, 2048, 128) is SimCLR's projector.
    """

    def __init__(self, sizes: Sequence[int], *, norm: Norm = "batch", last: bool = False):
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes {tuple(sizes)} must hold at least an input and an output width")
        self.options = {"sizes": list(sizes), "norm": norm, "last": last}
        for i, (a, b) in enumerate(pairwise(sizes)):
            final = i == len(sizes) - 2
            normed = last if final else norm != "none"
            self.append(nn.Linear(a, b, bias=not (normed and norm == "batch")))
            if normed:
                self.append(_norm(norm, b, affine=not final))
            if not final:
                self.append(nn.ReLU(inplace=True))

    def config(self) -> dict:
        return {"kind": "mlp", "options": self.options}


def hidden_layer(inputs: int, outputs: int, *, norm: Norm = "batch") -> nn.Sequential:
    """(B, inputs) -> (B, outputs): one hidden layer of an MLP: linear, normalisation, ReLU."""
    return nn.Sequential(*list(MLP((inputs, outputs, 1), norm=norm))[:-1])


def _norm(norm: Norm, width: int, affine: bool) -> nn.Module:
    if norm == "batch":
        return BatchNorm1d(width, affine=affine)
    if norm == "layer":
        return nn.LayerNorm(width, elementwise_affine=affine)
    raise ValueError(f"norm {norm!r}: a normalisation was asked for; choose 'batch' or 'layer'")


class Prototypes(nn.Module):
    """(B, width) -> (B, count): cosine of each row with learned unit vectors (SwAV, DINO's last layer).

    Rows and prototypes are normalised on use, in fp32, so that no step has to put the weights back on the sphere.
    """

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))

    def forward(self, x: Tensor, resting: bool = False) -> Tensor:
        """`resting`: the prototypes get a gradient of zero; not none, since data-parallel training waits for every parameter's."""
        weight = self.weight.detach() + 0 * self.weight if resting else self.weight
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            return F.normalize(wide, dim=-1) @ F.normalize(weight.to(wide.dtype), dim=-1).T

    def config(self) -> dict:
        count, width = self.weight.shape
        return {"kind": "prototypes", "options": {"width": width, "count": count}}


class SoftClasses(nn.Sequential):
    """(B, sizes[0]) -> (B, count): a projector without normalisation, then prototypes (DINO's and iBOT's head for vision transformers)."""

    def __init__(self, sizes: Sequence[int], count: int):
        super().__init__(MLP(sizes, norm="none"), Prototypes(sizes[-1], count))

    def forward(self, x: Tensor, resting: bool = False) -> Tensor:
        projector, prototypes = self
        return prototypes(projector(x), resting)


def token_head(width: int, target: Target, *, predicts: Literal["own", "next"], eps: float = 1e-5) -> nn.Linear:
    """What predicts tokens from `width` numbers: a language model's head for classes, one linear layer for values."""
    if target.kind == "class":
        return LanguageHead(width, target.outputs, predicts=predicts, eps=eps)
    return Linear(width, target.outputs)
