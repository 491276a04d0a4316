"""Vector instructions for word vectors: a few input rows against a few output rows, the small dense product that negative sampling is.

The words around one centre all predict it, and share its negatives (Ji, Satish, Li & Dubey 2016, arXiv:1604.04661): their scores are a
(rows, GROUP) product, and both gradients are products of the same size.  Rows lie anywhere in memory and are given by their addresses; they are
float32, LANES x blocks wide.  LLVM keeps GROUP rows of accumulators in registers, which no compiler finds in plain loops.

Who changes this file removes __pycache__/word_kernel*: numba's cache of compiled functions looks at their own file alone.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Numbers in a vector register; rows are padded to a multiple of it."""
GROUP = 6
"""Output rows that are taken at once: the target and five negatives."""

_FLOAT, _WORD = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FAST = ("fast",)
_SERIES = (1.5403530e-4, 1.33335581e-3, 9.61812911e-3, 5.55041087e-2, 2.40226507e-1, 6.93147181e-1, 1.0)
"""Of 2^f, the highest power first."""


class _Code:
    """Writes instructions: the few kinds that are needed here, by short names."""

    def __init__(self, builder):
        self.builder = builder

    def number(self, value: int):
        return ir.Constant(_WORD, value)

    def slot(self, kind=_VECTOR):
        """A zeroed place on the stack, which becomes a register."""
        return cgutils.alloca_once_value(self.builder, ir.Constant(kind, None))

    def everywhere(self, value: float):
        return ir.Constant(_VECTOR, [value] * LANES)

    def pointer(self, address, index, kind=_VECTOR):
        return self.builder.gep(self.builder.inttoptr(address, kind.as_pointer()), [index])

    def load(self, address, index, kind=_VECTOR):
        return self.builder.load(self.pointer(address, index, kind), align=8 if kind is _WORD else 4)

    def store(self, value, address, index, kind=_VECTOR):
        self.builder.store(value, self.pointer(address, index, kind), align=4)

    def add_product(self, slot, a, b):
        product = self.builder.fmul(a, b, flags=_FAST)
        self.builder.store(self.builder.fadd(self.builder.load(slot), product, flags=_FAST), slot)

    def clear(self, slot):
        self.builder.store(ir.Constant(slot.type.pointee, None), slot)

    def spread(self, value):
        """A number into every lane."""
        anything = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        one = self.builder.insert_element(anything, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, anything, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))

    def total(self, vector):
        """The sum of the lanes, halved again and again."""
        width = LANES
        while width > 1:
            half = width // 2
            index = lambda first, n=half: ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(first, first + n)))  # noqa: E731
            low, high = (self.builder.shuffle_vector(vector, vector, index(first)) for first in (0, half))
            vector, width = self.builder.fadd(low, high, flags=_FAST), half
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    def loop(self, stop):
        return cgutils.for_range(self.builder, stop, intp=_WORD)


def _dots_of(code: _Code, rows: list, targets: list, blocks, scores, first) -> None:
    """Scores of one or two rows against the group, written from row `first` on."""
    sums = [[code.slot() for _ in targets] for _ in rows]
    for slot in (s for line in sums for s in line):
        code.clear(slot)
    with code.loop(blocks) as loop:
        inputs = [code.load(row, loop.index) for row in rows]
        for k, target in enumerate(targets):
            output = code.load(target, loop.index)
            for line, x in zip(sums, inputs, strict=True):
                code.add_product(line[k], x, output)
    for number, line in enumerate(sums):
        row = code.builder.mul(code.builder.add(first, code.number(number)), code.number(LANES))
        for k, slot in enumerate(line):
            place = code.builder.add(row, code.number(k))
            code.store(code.total(code.builder.load(slot)), scores, place, _FLOAT)


@intrinsic
def dots(typingctx, sources, count, targets, blocks, scores):
    """scores (count, LANES), the first GROUP of them = rows `sources` times rows `targets`: addresses of arrays of addresses, int64."""

    def generate(context, builder, signature, args):
        code = _Code(builder)
        sources, count, targets, blocks, scores = args
        group = [code.load(targets, code.number(k), _WORD) for k in range(GROUP)]
        pairs = builder.and_(count, code.number(-2))
        with cgutils.for_range_slice(builder, code.number(0), pairs, code.number(2), _WORD) as (c, _):
            rows = [code.load(sources, builder.add(c, code.number(i)), _WORD) for i in range(2)]
            _dots_of(code, rows, group, blocks, scores, c)
        with builder.if_then(builder.icmp_signed("<", pairs, count)):
            row = code.load(sources, pairs, _WORD)
            _dots_of(code, [row], group, blocks, scores, pairs)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def update(typingctx, sources, results, count, targets, blocks, slopes):
    """For row c after row c: targets[k] += slopes[c, k] sources[c] and results[c] += sum over k of slopes[c, k] targets[k], with targets as they
    were before; a row that stands several times among targets or results takes every sum."""

    def generate(context, builder, signature, args):
        code = _Code(builder)
        sources, results, count, targets, blocks, slopes = args
        group = [code.load(targets, code.number(k), _WORD) for k in range(GROUP)]
        sums = [code.slot() for _ in group]
        with code.loop(blocks) as block:
            old = [code.load(target, block.index) for target in group]
            for slot in sums:
                code.clear(slot)
            with code.loop(count) as row:
                x = code.load(code.load(sources, row.index, _WORD), block.index)
                result = code.load(results, row.index, _WORD)
                mine = code.load(result, block.index)
                first = builder.mul(row.index, code.number(LANES))
                for k, (slot, output) in enumerate(zip(sums, old, strict=True)):
                    slope = code.spread(code.load(slopes, builder.add(first, code.number(k)), _FLOAT))
                    code.add_product(slot, slope, x)
                    mine = builder.fadd(mine, builder.fmul(slope, output, flags=_FAST), flags=_FAST)
                code.store(mine, result, block.index)
            for target, slot in zip(group, sums, strict=True):
                new = builder.fadd(code.load(target, block.index), builder.load(slot), flags=_FAST)
                code.store(new, target, block.index)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


def _power_of_two(code: _Code, y):
    """2^y for y in [-126, 0] in every lane, to 2e-7 of it: a polynomial, and the bits of the exponent."""
    builder, whole = code.builder, ir.VectorType(ir.IntType(32), LANES)
    part = builder.fptosi(builder.fsub(y, code.everywhere(0.5)), whole)  # the nearest whole number, as y is not above 0
    f = builder.fsub(y, builder.sitofp(part, _VECTOR), flags=_FAST)
    p = code.everywhere(_SERIES[0])
    for coefficient in _SERIES[1:]:
        p = builder.fadd(builder.fmul(p, f, flags=_FAST), code.everywhere(coefficient), flags=_FAST)
    exponent = builder.shl(builder.add(part, ir.Constant(whole, [127] * LANES)), ir.Constant(whole, [23] * LANES))
    return builder.fmul(p, builder.bitcast(exponent, _VECTOR), flags=_FAST)


@intrinsic
def slopes(typingctx, scores, count, real, positive, rate, tally):
    """scores (count, LANES) become rate x (label - sigmoid(score)): label 1 for column 0 where `positive`, else 0; 0 from column `real` on.

    The loss of a score s is log(1 + exp(-+s)) = max(0, -+s) + log(1 + exp(-|s|)).  `tally`, an address of (2, LANES) float64, takes the
    sum of the first terms, and the product of 1 + exp(-|s|) in place of the logarithms' sum: each factor is at most 2, so that a thousand rows fit."""

    def generate(context, builder, signature, args):
        code = _Code(builder)
        scores, count, real, positive, rate, tally = args
        doubles = ir.VectorType(ir.DoubleType(), LANES)
        zero, one = (code.everywhere(n) for n in (0.0, 1.0))
        numbers = ir.Constant(ir.VectorType(_WORD, LANES), list(range(LANES)))
        counted = builder.icmp_signed("<", numbers, code.spread(real))
        steps = builder.select(counted, code.spread(rate), zero)
        first = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] + [0] * (LANES - 1))
        label = builder.select(builder.and_(first, code.spread(builder.trunc(positive, ir.IntType(1)))), one, zero)
        is_first = builder.fcmp_ordered(">", label, zero)
        total, product = code.slot(doubles), code.slot(doubles)
        builder.store(code.load(tally, code.number(0), doubles), total)
        builder.store(code.load(tally, code.number(1), doubles), product)
        with code.loop(count) as row:
            s = builder.select(counted, code.load(scores, row.index), zero)
            size = builder.select(builder.fcmp_ordered("<", s, zero), builder.fneg(s), s)
            y = builder.fmul(size, code.everywhere(-1.4426950408889634), flags=_FAST)
            y = builder.select(builder.fcmp_ordered(">", y, code.everywhere(-126.0)), y, code.everywhere(-126.0))
            e = builder.select(counted, _power_of_two(code, y), zero)
            below = builder.fadd(one, e, flags=_FAST)
            above = builder.select(builder.fcmp_ordered(">=", s, zero), one, e)
            slope = builder.fsub(label, builder.fdiv(above, below, flags=_FAST), flags=_FAST)
            code.store(builder.fmul(slope, steps, flags=_FAST), scores, row.index)
            wrong = builder.select(is_first, builder.fneg(s), s)
            wrong = builder.select(builder.fcmp_ordered(">", wrong, zero), wrong, zero)
            builder.store(builder.fadd(builder.load(total), builder.fpext(wrong, doubles)), total)
            builder.store(builder.fmul(builder.load(product), builder.fpext(below, doubles)), product)
        code.store(builder.load(total), tally, code.number(0), doubles)
        code.store(builder.load(product), tally, code.number(1), doubles)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def combine(typingctx, sources, count, blocks, scale, result):
    """result = scale times the sum of the rows `sources`."""

    def generate(context, builder, signature, args):
        code = _Code(builder)
        sources, count, blocks, scale, result = args
        factor, total = code.spread(scale), code.slot()
        with code.loop(blocks) as block:
            code.clear(total)
            with code.loop(count) as row:
                x = code.load(code.load(sources, row.index, _WORD), block.index)
                builder.store(builder.fadd(builder.load(total), x, flags=_FAST), total)
            code.store(builder.fmul(builder.load(total), factor, flags=_FAST), result, block.index)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def spread_difference(typingctx, new, old, results, count, blocks):
    """Adds new - old to every row of `results`; a row that stands there twice takes it twice."""

    def generate(context, builder, signature, args):
        code = _Code(builder)
        new, old, results, count, blocks = args
        with code.loop(count) as row:
            result = code.load(results, row.index, _WORD)
            with code.loop(blocks) as block:
                change = builder.fsub(code.load(new, block.index), code.load(old, block.index), flags=_FAST)
                code.store(builder.fadd(code.load(result, block.index), change, flags=_FAST), result, block.index)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def prefetch(typingctx, address, size):
    """Asks for `size` bytes from `address` on, to be written soon."""

    def generate(context, builder, signature, args):
        pointer, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, whole, whole, whole])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        with cgutils.for_range_slice(builder, ir.Constant(_WORD, 0), args[1], ir.Constant(_WORD, 64), _WORD) as (at, _):
            place = builder.inttoptr(builder.add(args[0], at), pointer)
            builder.call(ask, [place, *(ir.Constant(whole, n) for n in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
