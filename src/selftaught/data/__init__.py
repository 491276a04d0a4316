"""Anything -> packed memory-mapped store -> loader; splits; duplicates; quarantine."""

from .bad import Bad, Rejected
from .cache import cache_folder, cache_size, clear_cache
from .dataset import Dataset
from .labels import Labels
from .loader import Loader, Sampler
from .opening import open_source
from .source import Source
from .splits import draws, split

__all__ = [
    "Bad", "Dataset", "Labels", "Loader", "Rejected", "Sampler", "Source", "cache_folder", "cache_size", "clear_cache",
    "draws", "open_source", "split",
]  # fmt: skip
