"""CIE Lab: lightness and two axes of colour in which equal distances look about equally different.

sRGB with its D65 white, IEC 61966-2-1 and CIE 15.  L in 0-100, a and b within about 110 of 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)
STEP = 10
"""Side of a bin of a and b (Zhang et al. 2016)."""


def to_lab(rgb: Tensor) -> Tensor:
    """(..., 3) sRGB in 0-1 -> (..., 3) L, a, b."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ rgb.new_tensor(TO_XYZ).T / rgb.new_tensor(WHITE)
    edge = (6 / 29) ** 3
    f = torch.where(xyz > edge, xyz.clamp_min(edge) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def from_lab(lab: Tensor) -> Tensor:
    """(..., 3) L, a, b -> (..., 3) sRGB, cut off to 0-1 where no screen can show the colour."""
    y = (lab[..., 0] + 16) / 116
    f = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * f.new_tensor(WHITE)
    linear = (xyz @ torch.linalg.inv(f.new_tensor(TO_XYZ).double()).to(f.dtype).T).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


def bins(levels: int = 33) -> Tensor:
    """(Q, 2) float32: centres of the bins of a and b, `STEP` wide, that some sRGB colour on a grid of `levels`^3 falls into."""
    axis = torch.linspace(0, 1, levels, dtype=torch.float64)
    colours = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    return (to_lab(colours)[:, 1:] / STEP).round().unique(dim=0).float() * STEP


def soft_bins(ab: Tensor, centres: Tensor, *, nearest: int = 5, sigma: float = 5.0) -> tuple[Tensor, Tensor]:
    """(M, nearest) indices and weights (summing to 1) of the bins that a and b (M, 2) belong to: a Gaussian over the nearest.

    Zhang et al. 2016, section 2.1.
    """
    far = torch.cdist(ab, centres.to(ab.dtype))
    distance, index = far.topk(nearest, largest=False)
    return index, torch.softmax(-distance.square() / (2 * sigma**2), 1)
