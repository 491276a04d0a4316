"""Augmentations and corruptions of images: whole batch at once, parameters of each row's own, on the batch's device."""

from .colour import Blur, Grey, Jitter, Solarise, luma
from .compose import BLUR_FROM, Compose, joint, local, mild, multi_crop, plain
from .geometry import Flip, Plain, ResizedCrop, Rotate, Size, as_float, central, quarter_turns, rotate, side_at
from .lab import to_lab
from .masks import Patches, block_masks, random_patches, random_tokens, rectangles
from .regions import RegionCrop
from .tiles import tile_side, tiles

__all__ = [
    "BLUR_FROM", "Blur", "Compose", "Flip", "Grey", "Jitter", "Patches", "Plain", "RegionCrop", "ResizedCrop", "Rotate", "Size", "Solarise",
    "as_float", "block_masks", "central", "joint", "local", "luma", "mild", "multi_crop", "plain", "quarter_turns", "random_patches", "random_tokens",
    "rectangles", "rotate", "side_at", "tile_side", "tiles", "to_lab",
]  # fmt: skip
