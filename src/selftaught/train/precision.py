"""Precision and device by what the chip has: bf16 only where hardware runs it, else fp32 (bf16 in software is 3-40 times slower)."""

from dataclasses import dataclass

import torch

from ..core.errors import RequestError


@dataclass(frozen=True)
class Precision:
    """dtype "float32" or "bfloat16", and the reason in words."""

    dtype: str
    reason: str


def device_of(name: str | None = None) -> torch.device:
    """The device asked for, or the best at hand: cuda, mps, cpu."""
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RequestError(f"{name!r} is no device.", "Accepted: auto, cpu, cuda, cuda:0, mps.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError(
            "--device cuda: this torch sees no GPU.", "Use --device cpu, or install a CUDA build of torch."
        )
    return device


def precision_for(device: torch.device, asked: str = "auto") -> Precision:
    """`asked`: auto, float32 or bfloat16."""
    if asked not in ("auto", "float32", "bfloat16"):
        raise RequestError(f"--precision {asked!r} is unknown.", "Accepted: auto, float32, bfloat16.")
    if asked != "auto":
        return Precision(asked, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "the GPU multiplies bf16")
        return Precision("float32", "the GPU has no bf16")
    if device.type == "cpu" and has_fast_bf16():
        return Precision("bfloat16", "the chip has AMX or AVX512-BF16")
    return Precision("float32", "the chip has no bf16 units")


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
