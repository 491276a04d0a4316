"""Small encoders with weights and statistics that are not those of a fresh network."""

import torch

from selftaught import nets
from selftaught.core import Encoder

OPTIONS = {
    "resnet18": ("resnet", {"depth": 18, "width": 8}),
    "resnet50": ("resnet", {"depth": 50, "width": 8, "channels": 1, "mean": (0.5,), "std": (0.2,)}),
    "resnet-small": ("resnet-small", {"widths": (8, 16), "blocks": (1, 1), "strides": (2, 2), "stem": 8}),
    "vit mean": ("vit", {"image_size": 16, "width": 16, "depth": 2, "heads": 2, "mean": (0.1, 0.2, 0.3)}),
    "vit class": ("vit", {"image_size": 16, "width": 16, "depth": 2, "heads": 2, "pooling": "class", "positions": "learned"}),
    "vit no class": ("vit", {"image_size": (16, 24), "width": 16, "depth": 2, "heads": 2, "class_token": False}),
    "text": ("text-transformer", {"vocabulary": 60, "context": 12, "width": 16, "depth": 2, "heads": 2}),
    "text causal": ("text-transformer", {"vocabulary": 60, "context": 12, "width": 16, "depth": 2, "heads": 2, "causal": True}),
    "series transformer": ("series-transformer", {"channels": 2, "width": 16, "depth": 1, "heads": 2}),
    "series convolutions": ("series-conv", {"channels": 2, "width": 16}),
    "sound transformer": ("sound-transformer", {"rate": 4000, "bands": 8, "width": 16, "depth": 1, "heads": 2}),
    "sound transformer, stem of convolutions": ("sound-transformer", {"rate": 4000, "bands": 8, "width": 16, "depth": 1, "heads": 2, "stem": "conv"}),
    "sound convolutions": ("sound-conv", {"rate": 4000, "bands": 8, "stem": 4, "widths": (4, 8), "blocks": (1, 1), "strides": (2, 1)}),
    "patch code": ("patch-code", {"size": (16, 16), "patch": (4, 5), "filters": (16, 16), "atoms": (64, 64), "width": (16, 16), "cells": (2, 2), "outputs": 24}),
}  # fmt: skip


@torch.no_grad()
def lived(encoder: Encoder) -> Encoder:
    """The encoder in eval mode, as if it had been trained."""
    torch.manual_seed(7)
    for p in encoder.parameters():
        p.add_(0.02 * torch.randn_like(p))
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return encoder.eval()


def network(name: str, **changes) -> Encoder:
    kind, options = OPTIONS[name]
    torch.manual_seed(0)
    return lived(nets.build(kind, **{**options, **changes}))
