"""How long two processors take to hand a cache line to each other: the least that threads pay who write to one line.

A virtual machine's processors move about: on some hosts they share a cache at one moment (30 to 40 ns) and do not at the next (170 ns)."""

import threading
import time

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_WORD = ir.IntType(64)
TURNS = 20_000


@intrinsic
def _read(typingctx, address):
    def generate(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], _WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _write(typingctx, address, value):
    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], _WORD.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@njit(nogil=True)
def _play(address, mine, turns):
    """Waits for every other number, from `mine` on, and answers with the next."""
    for turn in range(turns):
        while _read(address) != 2 * turn + mine:  # type: ignore[call-arg]
            pass
        _write(address, 2 * turn + mine + 1)  # type: ignore[call-arg]


def _once() -> float:
    memory = np.zeros(64, np.int64)
    address = memory.ctypes.data + 256
    other = threading.Thread(target=_play, args=(address, 1, TURNS))
    other.start()
    _play(address, 0, 1)  # the other is there
    began = time.perf_counter()
    _play(address, 2, TURNS - 1)
    passed = time.perf_counter() - began
    other.join()
    return passed / (TURNS - 1) / 2 * 1e9


def nanoseconds() -> float:
    """For one way, over TURNS turns; the least of five, as both threads may begin on one processor."""
    _play(0, 0, 0)  # compiled
    return min(_once() for _ in range(5))


if __name__ == "__main__":
    for _ in range(20):
        print(f"{nanoseconds():.0f} ns")
        time.sleep(0.5)
