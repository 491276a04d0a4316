"""Taking a vision transformer of transformers apart, so that its tokens can be dropped, replaced and moved.

Only where a probe shows that this changes nothing: all tokens kept is the model's own forward, some dropped is dense attention that
excludes them.  Absolute positions pass (ViT, DeiT, DINOv2, I-JEPA); relative bias, rotary positions and windows do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Tokens
from .architecture import network_class, network_config

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Split:
    """The parts of a model: embeddings with an absolute table of positions, layers of one width, a last norm."""

    embeddings: Any
    layers: nn.ModuleList
    norm: nn.Module
    patch: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, model: Any) -> Split | None:
        """None where the model is not built like that."""
        embeddings = getattr(model, "embeddings", None)
        project: Any = getattr(embeddings, "patch_embeddings", None)
        body = model if hasattr(model, "layers") else getattr(model, "encoder", None)
        layers = getattr(body, "layers", None) or getattr(body, "layer", None)
        norm = getattr(model, "layernorm", None)
        table = getattr(embeddings, "position_embeddings", None)
        if not isinstance(table, Tensor) or not isinstance(layers, nn.ModuleList) or norm is None:
            return None
        if not hasattr(project, "patch_size") or not hasattr(embeddings, "interpolate_pos_encoding"):
            return None
        size, patch = _pair(project.image_size), _pair(project.patch_size)
        return cls(embeddings, layers, norm, patch, (size[0] // patch[0], size[1] // patch[1]))

    @property
    def mask_token(self) -> Tensor | None:
        return getattr(self.embeddings, "mask_token", None)

    @property
    def width(self) -> int:
        return self.embeddings.position_embeddings.shape[-1]

    def patches(self, pixels: Tensor) -> Tensor:
        """(B, N, D): projected patches without positions."""
        return self.embeddings.patch_embeddings(pixels)

    def _leading(self) -> int:
        """Rows of the table that belong to prefix tokens."""
        return self.embeddings.position_embeddings.shape[1] - self.grid[0] * self.grid[1]

    def front(self) -> Tensor:
        """(1, P, D): class, distillation and register tokens with their own positions, which never change."""
        e = self.embeddings
        named = [getattr(e, name) for name in ("cls_token", "distillation_token") if hasattr(e, name)]
        leading = e.position_embeddings[:, : self._leading()]
        tokens = torch.cat([*named, leading[:, :0]], 1) + leading
        return torch.cat([tokens, e.register_tokens], 1) if hasattr(e, "register_tokens") else tokens

    def table(self, extent: tuple[int, ...] | None) -> Tensor:
        """(places, D): the positions of the patches, interpolated as the model does where the grid is not its own."""
        e, leading = self.embeddings, self._leading()
        if extent is None or extent == self.grid:
            return e.position_embeddings[0, leading:]
        high, wide = extent
        like = e.position_embeddings.new_empty(1, leading + high * wide, e.position_embeddings.shape[-1])
        return e.interpolate_pos_encoding(like, high * self.patch[0], wide * self.patch[1])[0, leading:]

    def run(self, tokens: Tokens) -> Tokens:
        """The tokens through positions, layers and the last norm."""
        table = self.table(tokens.grid or tokens.extent)
        if tokens.position is None:
            rows = table[None]
        else:
            rows = nn.functional.embedding(tokens.position[:, tokens.prefix :], table)
        front, patches = tokens.values[:, : tokens.prefix], tokens.patches
        x = torch.cat([front, patches + rows.to(patches.dtype)], 1)
        if hasattr(self.embeddings, "dropout"):
            x = self.embeddings.dropout(x)
        mask = None
        if tokens.valid is not None:
            mask = torch.zeros_like(tokens.valid, dtype=x.dtype).masked_fill(~tokens.valid, torch.finfo(x.dtype).min)
            mask = mask[:, None, None, :].expand(-1, 1, len(tokens), -1)
        for layer in self.layers:
            x = layer(x, mask)
            x = x[0] if isinstance(x, tuple) else x
        return tokens.with_values(self.norm(x))


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


@lru_cache(maxsize=32)
def probe(text: str) -> str:
    """ "" where tokens of this architecture may be dropped, else the reason why not.

    Measured on a copy of the architecture with two layers and random weights in every parameter (fresh networks have zero biases and
    tiny scales, which would hide what differs), on the CPU; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        torch.manual_seed(0)
        config = network_config(text)
        if not hasattr(config, "num_hidden_layers"):
            return "it is not built of equal layers"
        config.num_hidden_layers = min(2, config.num_hidden_layers)
        kind, arguments = network_class(config)
        model = kind(config, **arguments).eval()
        split = Split.of(model)
        if split is None:
            return "it has no absolute table of positions before equal layers"
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        try:
            return _compare(model, split)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            return f"its layers do not take a part of the tokens ({str(error)[:120]})"


def _compare(model: Any, split: Split) -> str:
    side = [n * p for n, p in zip(split.grid, split.patch)]
    pixels = torch.randn(1, model.config.num_channels, *side)
    front, patches = split.front(), split.patches(pixels)
    tokens = Tokens(torch.cat([front, patches], 1), grid=split.grid, prefix=front.shape[1])
    whole = split.run(tokens).values
    own = model(pixel_values=pixels).last_hidden_state
    if own.shape != whole.shape or (own - whole).abs().max() > TOLERANCE * own.abs().max():
        return "with all tokens kept, the layers alone do not give its own forward"
    kept = torch.randperm(patches.shape[1])[: max(1, patches.shape[1] // 2)][None]
    valid = torch.zeros(1, len(tokens), dtype=torch.bool)
    valid[:, : tokens.prefix] = True
    valid.scatter_(1, kept + tokens.prefix, True)
    dense = split.run(Tokens(tokens.values, valid, grid=split.grid, prefix=tokens.prefix)).take(kept).values
    fewer = split.run(tokens.take(kept)).values
    if (dense - fewer).abs().max() > TOLERANCE * dense.abs().max():
        return "a part of the tokens does not go through as under dense attention that excludes the others"
    return ""
