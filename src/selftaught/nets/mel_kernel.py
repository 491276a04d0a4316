"""Log-mel energies on a processor, compiled: LANES frames at a time go through window, FFT, filters and logarithm without leaving the cache.

Every lane of a vector is another frame, so that a frame's numbers are the same whatever lies beside it: the bits do not depend on batch, padding
or threads.  The FFT of N real samples is one of N / 2 complex ones (even samples real, odd ones imaginary), in steps of four after Cooley & Tukey
1965, decimated in time, with a step of two first where N / 2 is no power of four.

Legend: N size of the FFT, n = N / 2, rows of LANES float32.  Addresses are int64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..core.compiled import compiled, in_threads

LANES = 8
WORTH = 200
"""Frames that are worth a thread."""
_FLOAT, _WHOLE, _WORD = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _WHOLES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WHOLE, LANES)
_LOGARITHM = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
    -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
"""Of (log(1 + x) - x + x^2 / 2) / x^3 for x from sqrt(1/2) - 1 to sqrt(2) - 1, the highest power first (Moshier's Cephes, logf)."""


class Tables(NamedTuple):
    """What a front end is to the kernel."""

    taper: np.ndarray  # (window,) float32, its first value 0
    place: np.ndarray  # (n,) int64: the row where complex sample i begins
    turns: np.ndarray  # (N, 2) float32: exp(-2 pi i k / N), real and imaginary
    first: np.ndarray  # (bands + 1,) int64: where a band's weights begin
    bins: np.ndarray  # (bands,) int64: and the bin of the first of them
    weights: np.ndarray  # float32


def tables(taper: np.ndarray, filters: np.ndarray) -> Tables:
    """For a window (<= N) and filters (N / 2 + 1, bands), whose last bin counts for nothing."""
    n = len(filters) - 1
    angle = np.arange(2 * n) * (-math.pi / n)
    heard = [np.flatnonzero(band) for band in filters.T]
    spans = [(int(h[0]), int(h[-1]) + 1) if len(h) else (0, 0) for h in heard]
    weights = [filters[a:b, j] for j, (a, b) in enumerate(spans)]
    place = np.empty(n, np.int64)
    place[_order(n)] = np.arange(n)
    return Tables(
        taper.astype(np.float32), place, np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32),
        np.cumsum([0, *map(len, weights)]), np.array([a for a, _ in spans]), np.concatenate(weights).astype(np.float32),
    )  # fmt: skip


def _order(n: int) -> np.ndarray:
    """Which sample each row holds before the first step: the residues modulo four one after the other, and so on within each."""
    if n <= 2:
        return np.arange(n)
    return np.concatenate([q + 4 * _order(n // 4) for q in range(4)])


class _Code:
    """Writes instructions over rows of LANES numbers.  No reassociation: sums keep their order, and NaN stays NaN."""

    def __init__(self, builder):
        self.builder = builder

    def add(self, a, b):
        return self.builder.fadd(a, b, flags=("contract",))

    def sub(self, a, b):
        return self.builder.fsub(a, b, flags=("contract",))

    def mul(self, a, b):
        return self.builder.fmul(a, b, flags=("contract",))

    def times(self, a, b):
        """The product of two complex numbers (real, imaginary)."""
        real = self.sub(self.mul(a[0], b[0]), self.mul(a[1], b[1]))
        return real, self.add(self.mul(a[0], b[1]), self.mul(a[1], b[0]))

    def plus(self, a, b):
        return self.add(a[0], b[0]), self.add(a[1], b[1])

    def minus(self, a, b):
        return self.sub(a[0], b[0]), self.sub(a[1], b[1])

    def square(self, a):
        return self.add(self.mul(a[0], a[0]), self.mul(a[1], a[1]))

    def everywhere(self, value: float):
        return ir.Constant(_VECTOR, [value] * LANES)

    def slot(self):
        """A zeroed place on the stack, which becomes a register."""
        place = cgutils.alloca_once(self.builder, _VECTOR)
        self.builder.store(ir.Constant(_VECTOR, None), place)
        return place

    def spread(self, value):
        anything = ir.Constant(_VECTOR, ir.Undefined)
        one = self.builder.insert_element(anything, value, ir.Constant(_WHOLE, 0))
        return self.builder.shuffle_vector(one, anything, ir.Constant(_WHOLES, None))

    def pointer(self, address, index, kind=_VECTOR):
        return self.builder.gep(self.builder.inttoptr(address, kind.as_pointer()), [index])

    def load(self, address, index, kind=_VECTOR):
        return self.builder.load(self.pointer(address, index, kind), align=4)

    def row(self, rows, index):
        """Complex row `index`: its real numbers, and its imaginary ones."""
        twice = self.builder.mul(index, ir.Constant(_WORD, 2))
        return self.load(rows, twice), self.load(rows, self.builder.add(twice, ir.Constant(_WORD, 1)))

    def store(self, value, address, index):
        self.builder.store(value, self.pointer(address, index), align=4)

    def keep(self, value, rows, index):
        twice = self.builder.mul(index, ir.Constant(_WORD, 2))
        self.store(value[0], rows, twice)
        self.store(value[1], rows, self.builder.add(twice, ir.Constant(_WORD, 1)))

    def turn(self, turns, index):
        """The complex number `index` of a table, in every lane."""
        twice = self.builder.mul(index, ir.Constant(_WORD, 2))
        after = self.builder.add(twice, ir.Constant(_WORD, 1))
        return self.spread(self.load(turns, twice, _FLOAT)), self.spread(self.load(turns, after, _FLOAT))


@intrinsic
def _pair(typingctx, rows, a, b):
    """The step of two: rows a and b become their sum and difference."""

    def generate(context, builder, signature, args):
        code, (rows, a, b) = _Code(builder), args
        x, y = code.row(rows, a), code.row(rows, b)
        code.keep(code.plus(x, y), rows, a)
        code.keep(code.minus(x, y), rows, b)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def _four(typingctx, rows, first, apart, turns, turn):
    """The step of four: rows first, + apart, + 2 apart, + 3 apart, of which the latter three are turned by 1, 2, 3 times `turn` of the table."""

    def generate(context, builder, signature, args):
        code, (rows, first, apart, turns, turn) = _Code(builder), args
        at, angle = [first], [turn]
        for _ in range(3):
            at.append(builder.add(at[-1], apart))
            angle.append(builder.add(angle[-1], turn))
        x = [code.row(rows, i) for i in at]
        x[1:] = [code.times(v, code.turn(turns, w)) for v, w in zip(x[1:], angle, strict=False)]
        even, odd = (code.plus(x[0], x[2]), code.minus(x[0], x[2])), (code.plus(x[1], x[3]), code.minus(x[1], x[3]))
        turned = odd[1][1], code.sub(code.everywhere(0.0), odd[1][0])  # by -i
        code.keep(code.plus(even[0], odd[0]), rows, at[0])
        code.keep(code.plus(even[1], turned), rows, at[1])
        code.keep(code.minus(even[0], odd[0]), rows, at[2])
        code.keep(code.minus(even[1], turned), rows, at[3])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def _power(typingctx, rows, k, other, turns, powers):
    """|X|^2 of bins k and n - k of the real samples, from Z of k and of `other` ((n - k) mod n), into rows k and `other` of `powers`.

    X[k] = E + w O and X[n - k] = conj(E - w O), where E = (Z[k] + conj Z[n - k]) / 2, O = (Z[k] - conj Z[n - k]) / 2i, w = exp(-2 pi i k / N)."""

    def generate(context, builder, signature, args):
        code, (rows, k, other, turns, powers) = _Code(builder), args
        half = code.everywhere(0.5)
        one, two = ([code.mul(v, half) for v in code.row(rows, i)] for i in (k, other))
        even = code.add(one[0], two[0]), code.sub(one[1], two[1])
        odd = code.add(one[1], two[1]), code.sub(two[0], one[0])
        odd = code.times(odd, code.turn(turns, k))
        code.store(code.square(code.minus(even, odd)), powers, other)
        code.store(code.square(code.plus(even, odd)), powers, k)  # last: bin 0 is its own other, and n is not asked for
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _logarithm(code: _Code, x):
    """log x of positive normal numbers to 1e-7; NaN and infinity stay."""
    b = code.builder
    whole = lambda value: ir.Constant(_WHOLES, [value] * LANES)  # noqa: E731
    bits = b.bitcast(x, _WHOLES)
    root = whole(0x3F3504F3)  # the bits of sqrt(1/2): mantissas from there to sqrt(2)
    exponent = b.ashr(b.sub(bits, root), whole(23))
    m = code.sub(b.bitcast(b.sub(bits, b.shl(exponent, whole(23))), _VECTOR), code.everywhere(1.0))
    power = b.sitofp(exponent, _VECTOR)
    p = code.everywhere(_LOGARITHM[0])
    for coefficient in _LOGARITHM[1:]:
        p = code.add(code.mul(p, m), code.everywhere(coefficient))
    square = code.mul(m, m)
    rest = code.mul(code.mul(p, m), square)
    rest = code.add(rest, code.mul(power, code.everywhere(-2.12194440e-4)))
    rest = code.sub(rest, code.mul(square, code.everywhere(0.5)))
    found = code.add(code.add(m, rest), code.mul(power, code.everywhere(0.693359375)))
    return b.select(b.fcmp_ordered("<", x, code.everywhere(math.inf)), found, x)


@intrinsic
def _band(typingctx, powers, first, weights, begin, end, floor, out, band):
    """Row `band` of `out` = log max(floor, sum of weights[begin:end] times the rows of `powers` from `first` on)."""

    def generate(context, builder, signature, args):
        code, (powers, first, weights, begin, end, floor, out, band) = _Code(builder), args
        total = code.slot()
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(_WORD, 1), _WORD) as (i, _):
            energy = code.load(powers, builder.add(first, builder.sub(i, begin)))
            weight = code.spread(code.load(weights, i, _FLOAT))
            builder.store(code.add(builder.load(total), code.mul(weight, energy)), total)
        energy, least = builder.load(total), code.spread(floor)
        code.store(_logarithm(code, builder.select(builder.fcmp_ordered("<", energy, least), least, energy)), out, band)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5, types.float32, *[types.int64] * 2), generate


@intrinsic
def _offsets(typingctx, raw, window, share, out):
    """Row 0 of `out` = share times the sum of the `window` rows of `raw`."""

    def generate(context, builder, signature, args):
        code, (raw, window, share, out) = _Code(builder), args
        total = code.slot()
        with cgutils.for_range(builder, window, intp=_WORD) as loop:
            builder.store(code.add(builder.load(total), code.load(raw, loop.index)), total)
        code.store(code.mul(builder.load(total), code.spread(share)), out, ir.Constant(_WORD, 0))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def _sample(typingctx, raw, i, emphasis, offsets, taper, rows, at):
    """Row `at` of `rows` = (raw[i] - emphasis raw[i - 1] - offsets) taper[i], for i > 0."""

    def generate(context, builder, signature, args):
        code, (raw, i, emphasis, offsets, taper, rows, at) = _Code(builder), args
        before = code.load(raw, builder.sub(i, ir.Constant(_WORD, 1)))
        sample = code.sub(code.load(raw, i), code.mul(before, code.spread(emphasis)))
        sample = code.sub(sample, code.load(offsets, ir.Constant(_WORD, 0)))
        code.store(code.mul(sample, code.spread(code.load(taper, i, _FLOAT))), rows, at)
        return context.get_dummy_value()

    kinds = types.int64, types.int64, types.float32, types.int64, types.int64, types.int64, types.int64
    return types.void(*kinds), generate


@compiled
def _enter(wave, start, stop, scale, raw, lane):
    """The frame from `start` into a lane of `raw` (window, LANES): zeros from `stop` on."""
    window = raw.shape[0]
    known = min(window, stop - start)
    for i in range(known):
        raw[i, lane] = np.float32(wave[start + i]) * scale
    for i in range(known, window):
        raw[i, lane] = 0


@compiled
def _taper(raw, offsets, tables, emphasis, remove, rows):
    """The frames of `raw` without their mean, emphasised and tapered, as complex numbers in `rows` (n, 2, LANES)."""
    window = raw.shape[0]
    rows[:] = 0
    at, into, mean, taper = raw.ctypes.data, rows.ctypes.data, offsets.ctypes.data, tables.taper.ctypes.data
    _offsets(at, window, (np.float32(1) - emphasis) / np.float32(window) if remove else np.float32(0), mean)  # type: ignore[call-arg]
    for i in range(1, window):  # the taper begins with 0
        _sample(at, i, emphasis, mean, taper, into, 2 * tables.place[i >> 1] + (i & 1))  # type: ignore[call-arg]


@compiled
def _transform(rows, turns, n):
    """The complex FFT of `rows` (n, 2, LANES), in place."""
    length = n
    while length > 2:
        length //= 4
    if length == 2:
        for i in range(0, n, 2):
            _pair(rows, i, i + 1)  # type: ignore[call-arg]
    while length < n:
        step = n // (2 * length)  # of the table, which goes once round in 2 n
        for j in range(length):
            for i in range(j, n, 4 * length):
                _four(rows, i, length, turns, j * step)  # type: ignore[call-arg]
        length *= 4


@compiled
def energies(wave, length, ends, start, stop, hop, emphasis, remove, scale, floor, tables, out):
    """Frames start..stop of a batch, counted through its clips, into out (B, T, bands) float32: the logarithms of their energies.

    wave (B, L) int16 or float32, multiplied by `scale`; length (B,) samples; ends (B,): how many frames the clips up to this one have."""
    n, window, bands = tables.place.shape[0], tables.taper.shape[0], tables.bins.shape[0]
    raw, offsets = np.zeros((window, LANES), np.float32), np.empty(LANES, np.float32)
    rows, powers = np.empty((n, 2, LANES), np.float32), np.empty((n, LANES), np.float32)
    heard = np.empty((bands, LANES), np.float32)
    clips, frames = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    turns, weights = tables.turns.ctypes.data, tables.weights.ctypes.data
    at, power, result = rows.ctypes.data, powers.ctypes.data, heard.ctypes.data
    clip = 0
    for begin in range(start, stop, LANES):
        count = min(LANES, stop - begin)
        for lane in range(count):
            while begin + lane >= ends[clip]:
                clip += 1
            clips[lane], frames[lane] = clip, begin + lane - (ends[clip - 1] if clip else 0)
            _enter(wave[clip], frames[lane] * hop, length[clip], scale, raw, lane)
        _taper(raw, offsets, tables, emphasis, remove, rows)
        _transform(at, turns, n)
        for k in range(n // 2 + 1):
            _power(at, k, (n - k) % n, turns, power)  # type: ignore[call-arg]
        for band in range(bands):
            begin_at, end_at = tables.first[band], tables.first[band + 1]
            _band(power, tables.bins[band], weights, begin_at, end_at, floor, result, band)  # type: ignore[call-arg]
        for lane in range(count):
            for band in range(bands):
                out[clips[lane], frames[lane], band] = heard[band, lane]


class Front(NamedTuple):
    """Numbers of a front end beside its tables."""

    hop: int
    emphasis: float
    remove: bool  # a frame's mean
    floor: float


def run(
    wave: np.ndarray, length: np.ndarray, frames: np.ndarray, front: Front, tables: Tables, out: np.ndarray
) -> None:
    """Fills the first frames[b] rows of out[b] (B, T, bands) from length[b] samples of wave[b] (B, L), int16 or float32, in torch's threads."""
    ends = np.cumsum(frames)
    scale = np.float32(1 / 32768 if wave.dtype == np.int16 else 1)
    numbers = front.hop, np.float32(front.emphasis), front.remove, scale, np.float32(front.floor), tables, out
    in_threads(lambda low, high: energies(wave, length, ends, low, high, *numbers), int(frames.sum()), WORTH, LANES)
