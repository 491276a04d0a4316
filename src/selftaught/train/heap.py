"""glibc's allocator told to keep what a step frees: every step asks for the same activations again."""

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST = 1 << 25
"""glibc takes no larger threshold; blocks above it are still mapped anew."""


@cache
def keep_freed_memory() -> bool:
    """Blocks up to 32 MB come from the heap and stay in the process when they are freed; True where that could be set.

    Mapped and returned at every step, as by default, their pages are zeroed by the kernel each time: a twentieth to a sixth of a training step
    on a processor (benchmarks/throughput.py).  Peak memory hardly changes; what was once held is not given back before the end.  Does nothing
    outside glibc, or where MALLOC_* variables say that somebody has chosen already.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    wanted = ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 2 * LARGEST))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in wanted)
