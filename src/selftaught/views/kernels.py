"""Compiled loops for views on the processor: each row of a batch on its own, so that neither batch size nor threads change a bit.

They compute what the tensor expressions in geometry and colour compute (tests hold the two together), four to fifteen
times faster because a picture of 32 pixels stays in the first cache through all of its operations.  Arrays are channels
last: (B, H, W, C).  Imported only when first needed (core.compiled).
"""

import math
from collections.abc import Callable

import numpy as np

from ..core.compiled import compiled, in_threads

_WORTH_A_THREAD = 1 << 17  # elements of output below which handing work to another thread costs more than it saves


def over_rows(kernel: Callable, out: np.ndarray, *inputs) -> None:
    """Calls kernel(*inputs, out, low, high) so that every row of `out` is written once, in as many threads as torch uses."""
    worth = _WORTH_A_THREAD * len(out) // max(1, out.size)
    in_threads(lambda low, high: kernel(*inputs, out, low, high), len(out), worth)


@compiled
def _copy(source, target):  # plain loops: an array expression would take longer to compile than all the rest
    for i in range(source.size):
        target[i] = source[i]


@compiled
def _fill(target, value):
    for i in range(target.size):
        target[i] = value


@compiled
def _taps(length, size, antialias, weights, first, count):
    """Triangle weights of `size` outputs over a window of `length` pixels: torch's interpolate(antialias=True)."""
    scale = length / size
    support = max(scale, 1.0) if antialias else 1.0
    for o in range(size):
        centre = scale * (o + 0.5)
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), length)
        total = 0.0
        for j in range(low, high):
            w = max(0.0, 1.0 - abs(j + 0.5 - centre) / support)
            weights[o, j - low] = w
            total += w
        for k in range(high - low):
            weights[o, k] /= total
        first[o] = low
        count[o] = high - low


@compiled
def _weigh(weight, source, line):
    for c in range(source.size):
        line[c] = weight * source[c]


@compiled
def _add(weight, source, line):
    for c in range(source.size):
        line[c] += weight * source[c]


@compiled
def resized_crop(pixels, boxes, flip, antialias, unit, out, begin, end):
    """Rows begin..end of `out` (B, h, w, C) float32 from `pixels` (B, H, W, C): window, antialiased resize, mirror, times `unit`."""
    height, width, channels = pixels.shape[1], pixels.shape[2], pixels.shape[3]
    h, w = out.shape[1], out.shape[2]
    wy, y0, ny = np.empty((h, height), np.float32), np.empty(h, np.int64), np.empty(h, np.int64)
    wx, x0, nx = np.empty((w, width), np.float32), np.empty(w, np.int64), np.empty(w, np.int64)
    line = np.empty(width * channels, np.float32)
    for b in range(begin, end):
        top, left = boxes[b, 0], boxes[b, 1]
        _taps(boxes[b, 2], h, antialias, wy, y0, ny)
        _taps(boxes[b, 3], w, antialias, wx, x0, nx)
        source = pixels[b].reshape(height, width * channels)[:, left * channels : (left + boxes[b, 3]) * channels]
        for i in range(h):
            y = top + y0[i]
            _weigh(wy[i, 0] * unit, source[y], line)
            for k in range(1, ny[i]):
                _add(wy[i, k] * unit, source[y + k], line)
            for j in range(w):
                to = w - 1 - j if flip[b] else j
                if channels == 3:  # three sums at once: the usual case, twice as fast
                    at = x0[j] * 3
                    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
                    for k in range(nx[j]):
                        g = wx[j, k]
                        red += g * line[at]
                        green += g * line[at + 1]
                        blue += g * line[at + 2]
                        at += 3
                    out[b, i, to, 0] = red
                    out[b, i, to, 1] = green
                    out[b, i, to, 2] = blue
                else:
                    for c in range(channels):
                        total = np.float32(0)
                        for k in range(nx[j]):
                            total += wx[j, k] * line[(x0[j] + k) * channels + c]
                        out[b, i, to, c] = total


_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_ZERO, _ONE, _TWO, _FOUR, _SIX = np.float32(0), np.float32(1), np.float32(2), np.float32(4), np.float32(6)


@compiled
def _blend(plane, factor, other):
    for i in range(plane.size):
        plane[i] = min(_ONE, max(_ZERO, factor * plane[i] + (_ONE - factor) * other[i]))


@compiled
def _luma(red, green, blue, grey):
    total = _ZERO
    for i in range(red.size):
        grey[i] = _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
        total += grey[i]
    return total / np.float32(red.size)


@compiled
def _sector(h):
    """1 where the channel is at the value's foot, 0 where it is at its top: a tooth of period 6."""
    h -= _SIX * np.floor(h / _SIX)
    return max(_ZERO, min(_ONE, min(h, _FOUR - h)))


@compiled
def _turn_hue(red, green, blue, shift):
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        value = max(r, max(g, b))
        chroma = value - min(r, min(g, b))
        per = _ONE / (chroma if chroma > _ZERO else _ONE)
        hue = (g - b) * per if value == r else (_TWO + (b - r) * per if value == g else _FOUR + (r - g) * per)
        hue += _SIX * shift
        red[i] = value - chroma * _sector(hue + np.float32(5))
        green[i] = value - chroma * _sector(hue + np.float32(3))
        blue[i] = value - chroma * _sector(hue + _ONE)


@compiled
def jitter(pixels, factors, order, chosen, out, begin, end):
    """Rows begin..end of `out` (B, N, 3) float32: brightness, contrast, saturation and hue of `factors` (B, 4) in each row's `order` (B, 4)."""
    count = pixels.shape[1]
    red, green, blue = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    grey = np.empty(count, np.float32)
    for b in range(begin, end):
        if not chosen[b]:
            _copy(pixels[b].reshape(count * 3), out[b].reshape(count * 3))
            continue
        for i in range(count):
            red[i], green[i], blue[i] = pixels[b, i, 0], pixels[b, i, 1], pixels[b, i, 2]
        for place in range(4):
            operation = order[b, place]
            factor = factors[b, operation]
            if operation == 3:
                _turn_hue(red, green, blue, factor)
                continue
            mean = _ZERO
            if operation > 0:
                mean = _luma(red, green, blue, grey)
            if operation < 2:
                _fill(grey, mean)
            _blend(red, factor, grey)
            _blend(green, factor, grey)
            _blend(blue, factor, grey)
        for i in range(count):
            out[b, i, 0], out[b, i, 1], out[b, i, 2] = red[i], green[i], blue[i]


@compiled
def blur(pixels, sigmas, chosen, radius, out, begin, end):
    """Rows begin..end of `out` (B, H, W, C) float32: a separable Gaussian of each row's own width, borders mirrored."""
    height, width, channels = pixels.shape[1], pixels.shape[2], pixels.shape[3]
    weights = np.empty(2 * radius + 1, np.float32)
    line = np.empty((width + 2 * radius) * channels, np.float32)
    for b in range(begin, end):
        if not chosen[b]:
            _copy(pixels[b].reshape(out[b].size), out[b].reshape(out[b].size))
            continue
        total = _ZERO
        for k in range(2 * radius + 1):
            weights[k] = math.exp(-0.5 * ((k - radius) / sigmas[b]) ** 2)
            total += weights[k]
        for k in range(2 * radius + 1):
            weights[k] /= total
        source = pixels[b].reshape(height, width * channels)
        for i in range(height):
            inner = line[radius * channels : (radius + width) * channels]
            _fill(inner, _ZERO)
            for k in range(2 * radius + 1):
                y = abs(i + k - radius)
                y = y if y < height else 2 * (height - 1) - y
                _add(weights[k], source[y], inner)
            for k in range(1, radius + 1):
                for c in range(channels):
                    line[(radius - k) * channels + c] = inner[k * channels + c]
                    line[(radius + width - 1 + k) * channels + c] = inner[(width - 1 - k) * channels + c]
            target = out[b, i].reshape(width * channels)
            _fill(target, _ZERO)
            for k in range(2 * radius + 1):
                _add(weights[k], line[k * channels : (k + width) * channels], target)
