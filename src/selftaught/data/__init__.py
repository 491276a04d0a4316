"""Data: anything -> packed memory-mapped store -> loader; splits; duplicates; bad rows set apart."""

from .aligned import Aligned
from .bad import Bad, Rejected
from .cache import cache_folder, cache_size, clear_cache
from .dataset import Dataset
from .duplicates import (
    Pairs,
    clusters,
    count_duplicates,
    exact_between,
    exact_duplicates,
    near_duplicates,
    near_pictures,
    near_texts,
    picture_verifier,
    thumbnails,
)
from .label_sets import make_label_columns, make_label_sets
from .labels import Labels, make_labels
from .loader import Loader, Sampler
from .look import look, sizes
from .opening import open_source
from .pictures import picture_size, read_picture
from .sniff import guess_group, guess_label
from .source import Source
from .splits import draws, split, units
from .store import Store, pack

__all__ = [
    "Aligned", "Bad", "Dataset", "Labels", "Loader", "Pairs", "Rejected", "Sampler", "Source", "Store", "cache_folder", "cache_size",
    "clear_cache", "clusters", "count_duplicates", "draws", "exact_between", "exact_duplicates", "guess_group", "guess_label",
    "look", "make_label_columns", "make_label_sets", "make_labels", "near_duplicates", "near_pictures", "near_texts", "open_source", "pack", "picture_size",
    "picture_verifier", "read_picture", "sizes", "split", "thumbnails", "units",
]  # fmt: skip
