"""Whether a pretrained image model fits pictures: size, patches, positions, channels, mean and std.  Each mismatch in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..core import Encoder, RequestError, View, clean, module

ENLARGED = 1.5
"""From here on, enlarging pictures is worth a word."""
OTHER_SIZE = 2.0
"""Pictures this many times smaller or larger than what a model was made for are."""
FAR, FLAT = 4.0, 10.0
"""Normalised pixels whose mean is farther from 0 (no picture in 0-1 reaches it with ImageNet's figures), or whose deviation is this
many times off 1, are on another scale than the model's."""
REFUSALS = (RequestError, ValueError, RuntimeError, AssertionError)
"""What networks raise for pictures that they do not take (timm asserts)."""


def mismatches(encoder: Encoder, view: View, originals: Sequence[tuple[int, int]], own: bool) -> list[dict[str, str]]:
    """[{"kind", "text", "remedy"}] of an encoder and the rows as they are stored; empty where all fits.

    originals: (shorter side, channels) of pictures before they were stored; own: whether rows are read with the settings of the
    encoder's own folder (then size, mean and std cannot be set).  RequestError where the encoder does not take such rows.
    """
    pixels, made = view["pixels"], made_for(encoder)
    channels, side = pixels.shape[1], int(pixels.shape[2])
    _check_channels(encoder, channels)
    found = [*_size(side, originals, made, own)]
    if made.get("tokens") and made.get("side") and made["side"] != side:
        grids = [f"{n // made['patch']} x {n // made['patch']}" for n in (made["side"], side)]
        found.append(
            _said("positions", f"its positions are interpolated from {grids[0]} patches to {grids[1]}.", "" if own else f"--size {made['side']} keeps them.")
        )  # fmt: skip
    if originals and made["channels"] == 3 and np.median([c for _, c in originals]) == 1:
        found.append(_said("grey", "the pictures are grey and the model takes colours: grey is repeated in all three channels.", "What it knows of colours is idle."))  # fmt: skip
    found += _normalisation(encoder, pixels, own)
    _try(encoder, view, made)
    return found


def _said(kind: str, text: str, remedy: str) -> dict[str, str]:
    return {"kind": kind, "text": f"{kind}: {text}", "remedy": remedy}


def made_for(encoder: Encoder) -> dict[str, Any]:
    """{"side": pixels or None, "patch", "channels", "tokens": whether positions of patches are learned} of an image encoder."""
    encoder = getattr(
        encoder, "inner", encoder
    )  # behind a projector's first layer stands the network that reads pictures
    options = module.options(encoder)
    plan = getattr(encoder, "plan", None)
    size = options.get("image_size") or (plan.size if plan is not None else None)
    side = size if isinstance(size, int) or size is None else int(min(size))
    patch = plan.patch if plan is not None else options.get("patch")
    tokens = plan.interpolates and bool(patch) if plan is not None else encoder.kind == "vit"
    channels = plan.channels if plan is not None else int(options.get("channels", 3))
    return {"side": side, "patch": patch, "channels": channels, "tokens": tokens}


def _check_channels(encoder: Encoder, channels: int) -> None:
    wanted = made_for(encoder)["channels"]
    if channels == wanted or (channels == 1 and wanted == 3):
        return
    raise RequestError(
        f"The model takes {wanted} channel{'s' if wanted != 1 else ''}; these pictures have {channels}.",
        "Convert the pictures, or take a model for such: an encoder that begins anew has as many channels as the data.",
    )


def _size(side: int, originals: Sequence[tuple[int, int]], made: dict[str, Any], own: bool):
    natural = int(np.median([n for n, _ in originals])) if originals else side
    if side >= ENLARGED * natural:
        yield _said(
            "upscaled",
            f"pictures of about {natural} pixels are enlarged {side / natural:.1f} times, to {side}: that adds no detail and costs about "
            f"{(side / natural) ** 2:.0f} times the work.",
            f"A model made for about {natural} pixels suits them better." if own else f"--size {natural} leaves them as they are.",
        )  # fmt: skip
    wanted = made["side"]
    if wanted and max(side / wanted, wanted / side) >= OTHER_SIZE:
        patches = f", {max(1, side // made['patch'])} patches a side instead of {wanted // made['patch']}" if made["patch"] else ""  # fmt: skip
        yield _said(
            "size",
            f"the model was made for pictures of {wanted} pixels and gets {side}{patches}: its filters expect things {wanted / side:.1f} times as large.",
            "" if own else f"--size {wanted} gives it what it was made for, at about {(wanted / side) ** 2:.1f} times the work.",
        )  # fmt: skip


def _normalisation(encoder: Encoder, pixels: torch.Tensor, own: bool):
    options = module.options(encoder)
    if "mean" not in options or "std" not in options:
        return
    values = pixels.double() / (255 if pixels.dtype == torch.uint8 else 1)
    seen = [[round(float(v), 3) for v in got] for got in (values.mean((0, 2, 3)), values.std((0, 2, 3)))]
    remedy = "" if own else f"Say them: --set 'encoder_options.mean=[...]' and std; these pictures have mean {seen[0]}, std {seen[1]}."  # fmt: skip
    if encoder.assumed:
        what = " and ".join(encoder.assumed)
        yield _said("normalisation", f"the model does not record the {what} of its pixels: ImageNet's are assumed.", remedy)  # fmt: skip
    mean, std = (torch.tensor(options[k], dtype=torch.float64) for k in ("mean", "std"))
    middle = float(((values.mean((0, 2, 3)) - mean) / std).abs().max())
    spread = (values.std((0, 2, 3)) / std).clamp_min(1e-12)
    if middle > FAR or float(spread.max()) > FLAT or float(spread.min()) < 1 / FLAT:
        yield _said(
            "scale",
            f"normalised by the model's mean {list(options['mean'])} and std {list(options['std'])}, these pixels (0-1) have a mean of up to "
            f"{middle:.1f} and a deviation of {float(spread.min()):.3g} to {float(spread.max()):.3g} instead of about 0 and 1: another scale (0-255?).",
            remedy,
        )  # fmt: skip


def _try(encoder: Encoder, view: View, made: dict[str, Any]) -> None:
    side = int(view["pixels"].shape[2])
    try:
        features = clean(encoder, view.take(torch.arange(min(2, len(view)))))
    except REFUSALS as error:
        patch = made["patch"]
        near = max(patch, round(side / patch) * patch) if patch and side % patch else made["side"]
        raise RequestError(
            f"The model does not take pictures of {side} x {side} pixels: {str(error).splitlines()[0][:200]}",
            f"Say --size {near}." if near else "Take another --size.",
        ) from error
    if not torch.isfinite(features).all():
        raise RequestError("The model gives numbers that are not finite for these pictures.", "Check its mean and std.")


def multiple(encoder: Encoder, channels: int, side: int, sizes: Sequence[int]) -> int | None:
    """What sides of crops must be multiples of: None where the encoder takes `sizes`, else its patch, else `side` alone.

    Found by trying: two pictures a size, one forward each.
    """
    patch = made_for(encoder)["patch"]
    like = next(encoder.parameters(), torch.zeros(()))

    def takes(*tried: int) -> bool:
        for n in {*tried}:
            try:
                clean(encoder, View("image", parts={"pixels": torch.zeros(2, channels, n, n, device=like.device)}))
            except REFUSALS:
                return False
        return True

    if takes(*sizes):
        return None
    if patch and patch < side and side % patch == 0 and takes(patch, math.ceil(side / patch / 2) * patch):
        return int(patch)
    return side
