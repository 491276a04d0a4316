"""Views put together: the joint-embedding recipe, its small crops, and the mild view of generative methods."""

from __future__ import annotations

from dataclasses import dataclass

from ..core import Draw, Transform, View, ViewSpec
from .colour import Blur, Grey, Jitter, Solarise
from .geometry import Plain, ResizedCrop, Size, largest

BLUR_FROM = 64  # pixels: below, SimCLR leaves the blur out (its CIFAR-10 recipe, appendix B.9)


@dataclass(frozen=True)
class Compose:
    """Transforms one after another, over the whole batch.  Each draws under its own purpose: give two of a kind two names."""

    steps: tuple[Transform, ...]

    def __post_init__(self):
        purposes = [step.purpose for step in self.steps if hasattr(step, "purpose")]
        if len(set(purposes)) < len(purposes):
            raise ValueError(f"two transforms share a purpose, and so their random numbers: {purposes}")

    def __call__(self, view: View, draw: Draw) -> View:
        given = view["pixels"].untyped_storage().data_ptr() if "pixels" in view.parts else None
        for step in self.steps:
            if isinstance(step, Jitter | Grey | Solarise):
                view = step(view, draw, own=view["pixels"].untyped_storage().data_ptr() != given)
            else:
                view = step(view, draw)
        return view

    def describe(self, channels: int = 3) -> str:
        """One line in words; says what is left out for pictures that are not RGB."""
        return "; ".join(step.describe(channels) for step in self.steps)  # type: ignore[attr-defined]


def joint(
    size: Size,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    strength: float = 0.5,
    jitter: float = 0.8,
    grey: float = 0.2,
    blur: float | None = None,
    solarise: float = 0.0,
    flip: float = 0.5,
) -> Compose:
    """The view of joint-embedding methods (Chen et al. 2020, SimCLR, appendix A): crop, mirror, jitter, grey, blur, solarise.

    `strength` s gives jitter of 0.8 s, 0.8 s, 0.8 s and hue 0.2 s (s = 1 on ImageNet, 0.5 on CIFAR-10); the others are
    probabilities.  `blur` None: 0.5 where the side reaches 64 pixels, else none, as SimCLR does on CIFAR-10.
    """
    blur = (0.5 if largest(size) >= BLUR_FROM else 0.0) if blur is None else blur
    tint = 0.8 * strength
    steps: list[Transform] = [ResizedCrop(size, scale=scale, flip=flip)]
    if jitter and strength:
        steps.append(Jitter(tint, tint, tint, 0.2 * strength, p=jitter))
    if grey:
        steps.append(Grey(grey))
    if blur:
        steps.append(Blur(blur))
    if solarise:
        steps.append(Solarise(solarise))
    return Compose(tuple(steps))


def local(size: Size, *, scale: tuple[float, float] = (0.05, 0.2), strength: float = 0.5, **options) -> Compose:
    """The small crop of multi-crop methods: `joint` on a small part (Caron et al. 2020, SwAV: 0.05-0.14; DINO: 0.05-0.4)."""
    return joint(size, scale=scale, strength=strength, **options)


def multi_crop(whole: Transform, part: Transform, *, wholes: int = 2, parts: int = 6) -> list[ViewSpec]:
    """`wholes` views of role "global", then `parts` of role "local" (Caron et al. 2020)."""
    return [ViewSpec(whole, "global") for _ in range(wholes)] + [ViewSpec(part, "local") for _ in range(parts)]


def mild(size: Size, *, scale: tuple[float, float] = (0.2, 1.0)) -> Compose:
    """Crop and mirror only: the view of generative methods (He et al. 2022, MAE, appendix A.1)."""
    return Compose((ResizedCrop(size, scale=scale, flip=0.5),))


def plain(size: int) -> Plain:
    """The clean view of evaluation."""
    return Plain(size)
