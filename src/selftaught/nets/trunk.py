"""The one pre-norm transformer that every token encoder shares (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

Positions are added here, from `tokens.position`, never by the tokenizer: so a subset of the tokens goes through exactly as if the
others had been masked out of dense attention, and tokens may be replaced or moved before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import RequestError, Tokens, View

PositionKind = Literal["sincos", "learned", "none"]


def sincos(coordinates: Tensor, width: int) -> Tensor:
    """(M, axes) coordinates -> (M, width) float64: sines and cosines of geometric frequencies, width / axes for each axis.

    Vaswani et al. 2017, section 3.5; several axes as in He et al. 2022 (MAE).  What `width` leaves over is zero.
    """
    axes = coordinates.shape[-1]
    half = width // (2 * axes)
    rate = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=coordinates.device) / max(1, half))
    angle = coordinates.double()[..., None] * rate
    waves = torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)
    return F.pad(waves, (0, width - waves.shape[-1]))


class Positions(nn.Module):
    """What is added to a token for where it stands: nothing for prefix tokens, a row of a table for the others.

    `grid` is the table's own: (t,) or (h, w).  Other grids: a longer sequence gets the next sines and cosines (a learned table ends:
    RequestError); an image's grid is laid over the same picture, so that the places in between are computed ("sincos") or interpolated
    bicubically ("learned", as DINO and transformers do).
    """

    def __init__(self, width: int, grid: Sequence[int], kind: PositionKind = "sincos"):
        super().__init__()
        self.width, self.grid, self.kind = width, tuple(grid), kind
        if kind == "learned":
            self.table = nn.Parameter(0.02 * torch.randn(math.prod(grid), width))
        elif kind == "sincos":
            table = torch.empty(math.prod(grid), width)
            self.register_buffer("table", table if table.is_meta else self._waves(self.grid).float(), persistent=False)

    def _waves(self, extent: tuple[int, ...]) -> Tensor:
        axes = [torch.arange(n, dtype=torch.float64) for n in extent]
        if len(extent) > 1:
            axes = [(a + 0.5) * own / n - 0.5 for a, own, n in zip(axes, self.grid, extent, strict=True)]
        return sincos(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2), self.width)

    def over(self, extent: tuple[int, ...]) -> Tensor:
        """(places of `extent`, width): the table for another grid than the own one."""
        if len(extent) == len(self.grid) == 1 and isinstance(extent[0], torch.SymInt) and self.kind == "sincos":
            return self._waves(extent).to(
                self.table
            )  # a graph for any length: asked how long it is, it would be one for that length
        if extent == self.grid:
            return self.table
        if len(extent) != len(self.grid):
            raise ValueError(f"tokens on a grid of {len(extent)} axes meet positions of {len(self.grid)}")
        if len(extent) == 1 and extent[0] <= self.grid[0]:
            return self.table[: extent[0]]
        if self.kind == "sincos":
            return self._waves(extent).to(self.table)
        if len(extent) == 1:
            raise RequestError(
                f"A sequence of {extent[0]} tokens is longer than the {self.grid[0]} learned positions of this encoder.",
                "Crop the sequence, or build the encoder with a larger context.",
            )
        picture = self.table.view(1, *self.grid, self.width).movedim(-1, 1)
        picture = F.interpolate(picture, size=extent, mode="bicubic", align_corners=False)
        return picture.flatten(2)[0].T

    def forward(self, tokens: Tokens) -> Tensor:
        """(1 or B, N, width) to be added to tokens.values."""
        position, count = tokens.place, tokens.values.shape[1] - tokens.prefix
        position = position if position is None else position[:, tokens.prefix :]
        extent: tuple[int, ...]
        if len(self.grid) == 1:
            extent = (count if position is None or not count else int(position.max()) + 1,)
        else:
            extent = tokens.grid or tokens.extent or self.grid
        table = self.over(extent)
        rows = table[None, :count] if position is None else F.embedding(position, table)
        return F.pad(rows, (0, 0, tokens.prefix, 0))


CAUSAL: Literal["causal"] = "causal"
"""In the place of a mask: every token sees those before it and itself."""
Mask: TypeAlias = Tensor | Literal["causal"] | None


def seen_by(tokens: Tokens, causal: bool = False) -> Mask:
    """`attention_mask`, or where no token is padding and all stand in their order CAUSAL or None, for which there are faster kernels."""
    valid = tokens.valid
    asked = type(valid) is Tensor and valid.device.type == "cpu"  # a GPU would have to wait, a traced tensor cannot say
    if asked and bool(valid.all()):  # type: ignore[union-attr]
        tokens = replace(tokens, valid=None)
    plain = tokens.valid is None and tokens.segment is None and tokens.position is None and not tokens.prefix
    return CAUSAL if causal and plain else attention_mask(tokens, causal)


def attention_mask(tokens: Tokens, causal: bool = False) -> Tensor | None:
    """(B or 1, 1, N or 1, N) bool, True where the query (third axis) sees the key (last axis); None where all see all.

    Padding is seen by nobody; packed segments do not see one another; `causal` compares positions, and prefix tokens, which come
    before everything, then see only one another.  Every query sees at least one key, so that padding yields no NaN.
    """
    valid = tokens.valid
    if not causal and tokens.segment is None:
        return None if valid is None else (valid | ~valid.any(1, keepdim=True))[:, None, None, :]
    count, device = tokens.values.shape[1], tokens.values.device
    seen = torch.ones(1, count, count, dtype=torch.bool, device=device)
    if valid is not None:
        seen = seen & valid[:, None, :]
    if tokens.segment is not None:
        seen = seen & (tokens.segment[:, :, None] == tokens.segment[:, None, :])
    if causal:
        order = tokens.place
        order = (torch.arange(count, device=device) - tokens.prefix)[None] if order is None else order
        order = torch.where(torch.arange(count, device=device) < tokens.prefix, -1, order)
        seen = seen & (order[:, None, :] <= order[:, :, None])
    return (seen | torch.eye(count, dtype=torch.bool, device=device))[:, None]


class Attention(nn.Module):
    """Multi-head self-attention.  `qkv` is fused: its rows are queries, keys, values, each with the heads one after another."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        rows, count, width = x.shape
        q, k, v = self.qkv(x).view(rows, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        given = {"is_causal": True} if isinstance(mask, str) else {"attn_mask": mask}
        mixed = F.scaled_dot_product_attention(q, k, v, **given)  # type: ignore[arg-type]  # its softmax is in fp32 whatever the inputs
        return self.out(mixed.transpose(1, 2).reshape(rows, count, width))

    def some(self, x: Tensor, mask: Tensor | None, at: Tensor) -> Tensor:
        """(B, K, width): what forward gives in the places `at` (B, K) int64; keys and values come from all of x."""
        (rows, count, width), picked = x.shape, taken(x, at)
        q = F.linear(picked, self.qkv.weight[:width], self.qkv.bias[:width])
        q = q.view(rows, -1, self.heads, width // self.heads).transpose(1, 2)
        both = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = both.view(rows, count, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if mask is not None and mask.shape[2] > 1:
            mask = mask.expand(rows, -1, -1, -1)[torch.arange(rows, device=at.device)[:, None], 0, at][:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(rows, -1, width))


def taken(x: Tensor, at: Tensor) -> Tensor:
    """(B, K, D): of x (B, N, D) the places `at` (B, K) int64."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with exact GELU."""

    def __init__(self, width: int, heads: int, mlp: float, eps: float, dropout: float):
        super().__init__()
        hidden = int(width * mlp)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), mask))
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm2(x)))))

    def some(self, x: Tensor, mask: Tensor | None, at: Tensor) -> Tensor:
        """(B, K, width): what forward gives in the places `at` (B, K) int64, and no other."""
        x = taken(x, at) + self.dropout(self.attention.some(self.norm1(x), mask, at))
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm2(x)))))


class Blocks(nn.Module):
    """Positions, `depth` pre-norm blocks and a last LayerNorm, over core.Tokens: of an encoder, and of a decoder beside it.

    width must divide by heads.  `grid` is the positions' own grid: (context,) for sequences, (h, w) for images.  Padding
    (`valid`) never changes the result of valid tokens; `segment` isolates packed documents; `causal` hides later positions.
    Only LayerNorm: no row depends on another.  `dropout` acts on the embedded tokens and on each residual branch.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        grid: Sequence[int],
        mlp: float = 4.0,
        positions: PositionKind = "sincos",
        eps: float = 1e-6,
        dropout: float = 0.0,
    ):
        super().__init__()
        if depth < 1 or heads < 1 or width % heads:
            raise RequestError(
                f"A transformer of width {width}, depth {depth} and {heads} heads cannot be built.",
                "Depth and heads are at least 1, and heads divide the width.",
            )
        self.positions = Positions(width, grid, positions) if positions != "none" else None
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.ModuleList([Block(width, heads, mlp, eps, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=eps)
        initialise(self.layer)
        for block in self.layer:  # the residual stream's variance stays that of its input (Radford et al. 2019)
            for last in (block.attention.out, block.contract):  # type: ignore[union-attr]
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * depth))  # type: ignore[union-attr, arg-type]

    def _run(self, tokens: Tokens, causal: bool, every: bool) -> list[Tensor]:
        x = tokens.values if self.positions is None else tokens.values + self.positions(tokens).to(tokens.values.dtype)
        mask = seen_by(tokens, causal)
        x, out = self.dropout(x), []
        for number, block in enumerate(self.layer):
            x = block(x, mask)
            if every or number == len(self.layer) - 1:
                out.append(self.norm(x))
        return out

    def forward(self, tokens: Tokens, causal: bool = False) -> Tokens:
        """The same tokens with new values, through the last LayerNorm."""
        return tokens.with_values(self._run(tokens, causal, every=False)[-1])

    def read(self, tokens: Tokens, chosen: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        """(B, K, width) what forward gives in the `chosen` places (B, N) bool, in their order, and (B, K) bool, True where there is one.

        The last block is worked out for these alone: of four blocks and 15 % of the tokens, a sixth of the work is saved."""
        x = tokens.values if self.positions is None else tokens.values + self.positions(tokens).to(tokens.values.dtype)
        mask, x = seen_by(tokens, causal), self.dropout(x)
        for block in self.layer[:-1]:
            x = block(x, mask)
        counts = chosen.sum(1, keepdim=True)
        at = torch.argsort((~chosen).to(torch.uint8), dim=1, stable=True)[:, : max(1, int(counts.max()))]
        mask = attention_mask(tokens, causal) if isinstance(mask, str) else mask
        return self.norm(self.layer[-1].some(x, mask, at)), torch.arange(at.shape[1], device=at.device) < counts  # type: ignore[operator]

    def stages(self, tokens: Tokens, causal: bool = False) -> list[Tokens]:
        """The tokens after every block, each through the last LayerNorm, so that stages have one scale; the last is forward's."""
        return [tokens.with_values(x) for x in self._run(tokens, causal, every=True)]

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, in groups for layer-wise learning rates."""
        first = list(self.positions.parameters()) if self.positions is not None else []
        return [first, *(list(b.parameters()) for b in self.layer), list(self.norm.parameters())]


def initialise(module: nn.Module) -> None:
    """Linear layers: normal with deviation 0.02, biases 0 (Devlin et al. 2019; Radford et al. 2019)."""
    for m in module.modules():
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=0.02)
            nn.init.zeros_(m.bias)


def replace_masked(values: Tensor, mask_token: Tensor, masked: Tensor | None) -> Tensor:
    """(B, N, D) with `mask_token` (D,) where `masked` (B, N) holds.

    With nothing masked the token takes part times zero: every parameter then has a gradient, as data-parallel training demands.
    """
    if masked is None:
        return values + 0 * mask_token.to(values.dtype)
    return torch.where(masked[..., None], mask_token.to(values.dtype), values)


def part(view: View, name: str) -> Tensor | None:
    """A part that a view may have: "valid", "masked", "position", "segment"."""
    return view[name] if name in view.parts else None
