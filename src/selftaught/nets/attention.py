"""Where the last block of a token encoder looks, head by head: read off a forward pass, nothing is changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import Encoder, Tokens, View
from .trunk import Attention, Blocks


@dataclass(frozen=True)
class Looking:
    """maps (B, heads, *grid): the share of attention that each patch draws; what class and register tokens draw to themselves is left out, so
    that a map sums to 1 or less."""

    maps: Tensor
    of_class: bool
    """Whether the class token asks, which is then the representation; else all patches do, and the maps are their mean."""


@torch.no_grad()
def last_attention(encoder: Encoder, view: View) -> Looking | None:
    """The last block's attention (Caron et al. 2021, figure 1); None where the encoder has no tokens or they lie on no grid.

    Cost: a forward pass, and (B, heads, N, N) numbers.
    """
    if "tokens" not in encoder.can:
        return None
    if encoder.kind == "borrowed":
        return _borrowed(encoder, view)
    blocks = next((m for m in encoder.modules() if isinstance(m, Blocks)), None)
    if blocks is None:
        return None
    last: Any = blocks.layer[-1]
    held: dict[str, Any] = {}
    hook = last.attention.register_forward_pre_hook(lambda _, given: held.update(x=given[0], mask=given[1]))
    try:
        tokens = encoder.trunk(encoder.tokenize(view))
    finally:
        hook.remove()
    taken = weights(last.attention, held["x"], held["mask"])
    return _maps(taken, tokens, getattr(encoder, "pooling", "mean") == "class")


def weights(attention: Attention, x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, heads, N, N): how much each token (third axis) takes from each (last axis) in `attention(x, mask)`; rows sum to 1."""
    rows, count, width = x.shape
    q, k, _ = attention.qkv(x).view(rows, count, 3, attention.heads, width // attention.heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)


def _maps(taken: Tensor, tokens: Tokens, of_class: bool) -> Looking | None:
    if tokens.grid is None:
        return None
    asked = taken[:, :, 0] if of_class else taken[:, :, tokens.prefix :].mean(2)
    return Looking(asked[:, :, tokens.prefix :].unflatten(2, tokens.grid), of_class)


def _borrowed(encoder: Any, view: View) -> Looking | None:
    """Of a vision transformer of transformers, by its own eager attention, which alone tells its weights."""
    model, tokens = encoder.model, encoder.tokenize(view)
    was = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        found = encoder.outputs(view, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(was)
    of_class = encoder.pooling == "class" or (encoder.pooling == "auto" and tokens.prefix > 0)
    return _maps(found[-1], tokens, of_class) if found else None
