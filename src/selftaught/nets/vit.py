"""Vision transformer (Dosovitskiy et al. 2021), with the token dropping of MAE and the mask token of SimMIM and iBOT."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .pixels import Normalise
from .trunk import Blocks, part, replace_masked


class ViT(Encoder):
    """Patches of a picture through pre-norm blocks; (B, width) is the mean of the patches or the class token.

    The default (width 192, depth 6, 32 px in patches of 4: 2.7 M parameters, about 0.4 GFLOP a picture forward) is made for two
    cores.  Pictures of another size than `image_size` are taken where their sides are multiples of `patch`.

    With class_token and no registers it is transformers' ViTModel (hidden_act "gelu", layer_norm_eps = eps), parameter by parameter:
    ``cls_token`` = embeddings.cls_token; ``project`` = embeddings.patch_embeddings.projection; positions = rows 1.. of
    embeddings.position_embeddings, whose row 0 is zero; ``blocks.layer.i``: norm1 = layernorm_before, the thirds of attention.qkv =
    q_proj, k_proj, v_proj, attention.out = o_proj, norm2 = layernorm_after, expand = mlp.fc1, contract = mlp.fc2;
    ``blocks.norm`` = layernorm.  `mean` and `std` go to the image processor, as this encoder takes pixels in 0-1.
    """

    kind: ClassVar[str] = "vit"
    modality: ClassVar[str] = "image"

    image_size: int | tuple[int, int] = 32
    """Side of the picture in pixels, or (height, width)."""
    patch: int = 4
    """Side of a patch in pixels."""
    channels: int = 3
    """Colour channels."""
    width: int = 192
    """Width of a token."""
    depth: int = 6
    """Number of blocks."""
    heads: int = 3
    """Attention heads; they divide the width."""
    mlp: float = 4.0
    """Hidden width of a block's two-layer network, in widths."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from pixels in 0-1: one number, or one a channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides them afterwards."""
    pooling: Literal["mean", "class"] = "mean"
    """What represents the picture: the mean of the patches, or the class token."""
    class_token: bool = True
    """Whether a class token stands before the patches."""
    registers: int = 0
    """Register tokens (Darcet et al. 2024) between the class token and the patches."""
    positions: Literal["sincos", "learned"] = "sincos"
    """Fixed sines and cosines, or a learned table."""
    eps: float = 1e-12
    """Of the layer norms; transformers' ViT has 1e-12."""
    causal: bool = False
    """Whether a token sees only what came before it, in the representation too: set by methods that train so."""
    dropout: float = 0.0
    """On embedded tokens and residual branches."""

    def __post_init__(self):
        high, wide = self._size()
        if high % self.patch or wide % self.patch:
            raise RequestError(
                f"Pictures of {high} x {wide} pixels do not divide into patches of {self.patch}.",
                "Choose a patch that divides both sides.",
            )
        if self.pooling == "class" and not self.class_token:
            raise RequestError('pooling = "class" needs a class token.', "Set class_token = true, or pooling = mean.")
        self.normalise = Normalise(self.mean, self.std, self.channels)
        self.project = nn.Conv2d(self.channels, self.width, self.patch, self.patch)
        nn.init.xavier_uniform_(self.project.weight.detach().flatten(1))
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.width))
        if self.class_token:
            self.cls_token = nn.Parameter(0.02 * torch.randn(self.width))
        if self.registers:
            self.register_tokens = nn.Parameter(0.02 * torch.randn(self.registers, self.width))
        self.blocks = Blocks(
            self.width, self.depth, self.heads, grid=(high // self.patch, wide // self.patch), mlp=self.mlp,
            positions=self.positions, eps=self.eps, dropout=self.dropout,
        )  # fmt: skip

    def _size(self) -> tuple[int, int]:
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "mask", "causal", "stages"})

    @property
    def dim(self) -> int:
        return self.width

    @property
    def multiple(self) -> int:
        return self.patch

    def tokenize(self, view: View) -> Tokens:
        """(B, prefix + h w, width) from pixels (B, C, H, W), uint8 or float in 0-1; "masked" (B, h w) puts the mask token in."""
        pixels = view["pixels"]
        if pixels.shape[1] != self.channels or pixels.shape[2] % self.patch or pixels.shape[3] % self.patch:
            raise RequestError(
                f"Pictures of {tuple(pixels.shape[1:])} do not fit this ViT of {self.channels} channels and patches of {self.patch}.",
                "Give pictures with these channels and with sides that are multiples of the patch.",
            )
        x = self.project(self.normalise(pixels, self.project.weight.dtype))
        grid = (x.shape[2], x.shape[3])
        patches = replace_masked(x.flatten(2).transpose(1, 2), self.mask_token, part(view, "masked"))
        prefix = [self.cls_token[None]] if self.class_token else []
        prefix += [self.register_tokens] if self.registers else []
        if prefix:
            front = torch.cat(prefix).to(patches.dtype).expand(patches.shape[0], -1, -1)
            patches = torch.cat([front, patches], 1)
        return Tokens(patches, grid=grid, prefix=patches.shape[1] - grid[0] * grid[1])

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return self.blocks(tokens, causal or self.causal)

    def features(self, view: View) -> list[Tokens]:
        """The tokens after every block: `depth` stages of one grid and width."""
        return self.blocks.stages(self.tokenize(view), self.causal)

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width), from all tokens or from those that were kept."""
        return tokens.values[:, 0] if self.pooling == "class" else tokens.mean()

    def layers(self) -> list[list[nn.Parameter]]:
        positions, *blocks = self.blocks.layers()
        stem = [p for name, p in self.named_parameters() if not name.startswith("blocks.")]
        return [stem + positions, *blocks]
