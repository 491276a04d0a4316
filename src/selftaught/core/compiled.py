"""Loops compiled by numba, and threads to run them in.

Imported only when first needed: numba takes half a second to import, and the first call on a machine some seconds to compile (kept on disk
afterwards).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import torch


def compiled(function: Callable) -> Callable:
    """`function` compiled without the interpreter's lock; kept on disk where any cache folder can be written."""
    # No fastmath: what it allows depends on inlining, and that on whether a callee came from the disk cache, so that a first
    # run and its resumption would differ in the last bit.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba found no folder to write to: compile anew in each process
        return numba.njit(function, **options)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="compiled")


if hasattr(os, "register_at_fork"):  # a forked child has the pool's object but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_threads(work: Callable[[int, int], Any], count: int, worth: int, multiple: int = 1) -> None:
    """Calls work(low, high) so that 0..count is covered once, in as many threads as torch uses; one of fewer than `worth` would cost more than it
    saves.  Borders are multiples of `multiple`."""
    threads = max(1, min(torch.get_num_threads(), count // max(1, worth)))
    blocks = -(-count // multiple)
    edges = [min(count, blocks * i // threads * multiple) for i in range(threads + 1)]
    others = [_pool(threads - 1).submit(work, *edges[i : i + 2]) for i in range(1, threads)]
    work(*edges[:2])
    for other in others:
        other.result()
