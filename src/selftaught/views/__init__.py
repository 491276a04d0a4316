"""Augmentations and corruptions of images: whole batch at once, parameters of each row's own, on the batch's device."""

from .colour import Blur, Grey, Jitter, Solarise, luma
from .compose import BLUR_FROM, Compose, joint, local, mild, multi_crop, plain
from .corruptions import corruptions
from .geometry import Flip, Plain, ResizedCrop, Rotate, Size, Trim, as_float, central, quarter_turns, rotate, side_at
from .lab import from_lab, to_lab
from .masks import (
    Patches,
    block_masks,
    hidden_tokens,
    random_patches,
    random_tokens,
    random_words,
    rectangles,
    run_numbers,
)
from .regions import RegionCrop
from .same import row_keys
from .tiles import tile_side, tiles, usual_grid

__all__ = [
    "BLUR_FROM", "Blur", "Compose", "Flip", "Grey", "Jitter", "Patches", "Plain", "RegionCrop", "ResizedCrop", "Rotate", "Size", "Solarise", "Trim",
    "as_float", "block_masks", "central", "corruptions", "from_lab", "hidden_tokens", "joint", "local", "luma", "mild", "multi_crop", "plain",
    "quarter_turns", "random_patches", "random_tokens", "random_words",
    "rectangles", "rotate", "row_keys", "run_numbers", "side_at", "tile_side", "tiles", "to_lab", "usual_grid",
]  # fmt: skip
