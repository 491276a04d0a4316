"""Documents laid into sequences of one length: which tokens of which rows stand where, worked out once.

A document is one row, or several rows in order (the lines of a text file).  Longer ones are cut into pieces; each piece has a begin mark, the
last of a document an end mark.

isolated      pieces by best fit, largest first (Krell et al. 2021): few places stay empty, and pieces are not to see one another
bos_bestfit   every sequence begins with a begin mark and is filled to its end: the largest piece that fits, and where none does one is cut
              in two, the rest with a begin mark of its own (after nanochat's packing, which throws the rest away)
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

WAYS = ("isolated", "bos_bestfit")
SMALLEST = 8
"""A shorter end of a sequence is left empty rather than filled with a cut-off beginning."""


@dataclass(frozen=True)
class Plan:
    """P sequences of `context` places.

    Spans (S, 4) int64 are (row, first token, tokens, place in the sequence) in the order of the sequences, `span_of` (P + 1,) says whose;
    pieces (Q, 3) int64 are (place, length with marks, whether the document ends there), `piece_of` (P + 1,).
    """

    context: int
    spans: np.ndarray
    span_of: np.ndarray
    pieces: np.ndarray
    piece_of: np.ndarray

    def __len__(self) -> int:
        return len(self.span_of) - 1

    @property
    def filled(self) -> float:
        """The share of places that hold a token or a mark, in 0-1."""
        return float(self.pieces[:, 1].sum()) / max(1, len(self) * self.context)


def plan(lengths: np.ndarray, context: int, way: str, *, documents: np.ndarray | None = None, join: int = 0, order: np.ndarray | None = None) -> Plan:  # fmt: skip
    """The plan for rows of `lengths` (R,) tokens: every token stands in it once.

    `documents` (R,) int64 says which rows make a document, in their order; None: each its own.  `join` places lie between two rows of a
    document (a line break).  `order` (R,) permutes which of equally long documents comes first.  ValueError for a context below 4.
    Time grows with the number of rows, and for best fit with the context.
    """
    if way not in WAYS or context < 4:
        raise ValueError(f"way {way!r}, context {context}; ways: {WAYS}, at least 4 tokens")
    lengths = np.asarray(lengths, np.int64)
    rows = np.arange(len(lengths)) if order is None else np.asarray(order, np.int64)
    if documents is None:
        bounds = np.arange(len(rows) + 1)
    else:
        turn = np.argsort(rows, kind="stable")  # row -> its turn: a document stands where its first row does
        codes = np.unique(documents, return_inverse=True)[1]
        first = np.full(codes.max(initial=-1) + 1, len(rows))
        np.minimum.at(first, codes, turn)
        rows = np.lexsort((np.arange(len(codes)), first[codes]))
        changes = np.flatnonzero(np.diff(codes[rows])) + 1
        bounds = np.concatenate([[0], changes, [len(rows)]])
    tokens = (
        np.add.reduceat(lengths[rows], bounds[:-1]) + join * (np.diff(bounds) - 1)
        if len(rows)
        else np.zeros(0, np.int64)
    )
    cut = _cut(tokens, context)
    sizes = cut[:, 2] + 1 + cut[:, 3]
    if way == "isolated":
        placed = _isolated(sizes, context)
    else:
        cut, placed = _filled(cut, context)
        sizes = cut[:, 2] + 1 + cut[:, 3]
    count = int(placed[:, 0].max(initial=-1)) + 1
    turn = np.lexsort((placed[:, 1], placed[:, 0]))
    cut, placed, sizes = cut[turn], placed[turn], sizes[turn]
    pieces = np.stack([placed[:, 1], sizes, cut[:, 3]], 1)
    piece_of = np.searchsorted(placed[:, 0], np.arange(count + 1))
    spans, owner = _spans(cut, placed[:, 1], rows, lengths[rows], bounds, join)
    span_of = np.searchsorted(placed[owner, 0], np.arange(count + 1))
    return Plan(context, spans, span_of, pieces, piece_of)


@numba.njit(cache=True)
def _cut(tokens: np.ndarray, context: int) -> np.ndarray:
    """(Q, 4): document, first token, tokens, whether it ends there; a piece has at most `context` places with its marks."""
    count = 0
    for d in range(len(tokens)):
        count += max(1, -(-(tokens[d] + 1) // (context - 1)))
    out = np.empty((count, 4), np.int64)
    at = 0
    for d in range(len(tokens)):
        pieces, start = max(1, -(-(tokens[d] + 1) // (context - 1))), 0
        for k in range(pieces):
            last = k == pieces - 1
            left = tokens[d] - start
            size = left if last else min(context - 1, left - 1)  # no document's end stands alone
            out[at, 0], out[at, 1], out[at, 2], out[at, 3] = d, start, size, 1 if last else 0
            start += size
            at += 1
    return out


@numba.njit(cache=True)
def _by_size(sizes: np.ndarray, context: int):
    """Linked lists of pieces by size: (first of each size, next of each piece), in the order of the pieces."""
    head, following = np.full(context + 1, -1, np.int64), np.full(len(sizes), -1, np.int64)
    for i in range(len(sizes) - 1, -1, -1):
        following[i] = head[sizes[i]]
        head[sizes[i]] = i
    return head, following


@numba.njit(cache=True)
def _isolated(sizes: np.ndarray, context: int) -> np.ndarray:
    """(Q, 2): sequence and place of each piece; best fit, largest first."""
    head, following = _by_size(sizes, context)
    room_head, room_next = np.full(context + 1, -1, np.int64), np.full(len(sizes), -1, np.int64)
    out = np.empty((len(sizes), 2), np.int64)
    used = 0
    for size in range(context, 0, -1):
        piece = head[size]
        while piece >= 0:
            room = size
            while room <= context and room_head[room] < 0:
                room += 1
            if room > context:
                target, left = used, context
                used += 1
            else:
                target, left = room_head[room], room
                room_head[room] = room_next[target]
            out[piece, 0], out[piece, 1] = target, context - left
            left -= size
            room_next[target] = room_head[left]
            room_head[left] = target
            piece = following[piece]
    return out


@numba.njit(cache=True)
def _filled(cut: np.ndarray, context: int):
    """(pieces, cut further; (Q, 2) their sequences and places): sequences filled one after another, as the module says."""
    sizes = cut[:, 2] + 1 + cut[:, 3]
    head, following = _by_size(sizes, context)
    cuts = (
        2 * (int(sizes.sum()) // max(1, context - SMALLEST)) + 16 if context > SMALLEST else 0
    )  # at most one at a sequence's end, or two
    longest = len(cut) + cuts
    pieces, placed = np.empty((longest, 4), np.int64), np.empty((longest, 2), np.int64)
    rest = np.empty((longest, 4), np.int64)  # pieces by number, cut-off rests behind the given ones
    rest[: len(cut)] = cut
    links = np.full(longest, -1, np.int64)
    links[: len(cut)] = following
    known, left, at, sequence = len(cut), len(cut), 0, 0
    while left > 0:
        room = context
        while room >= 2 and left > 0:
            size = room
            while size > 0 and head[size] < 0:
                size -= 1
            if size > 0:
                number = head[size]
                head[size] = links[number]
                pieces[at] = rest[number]
                left -= 1
            else:
                if room < SMALLEST:
                    break
                size = room + 1
                while head[size] < 0:
                    size += 1
                number = head[size]
                head[size] = links[number]
                taken = room - 1
                if rest[number, 2] - taken < 1:
                    taken = rest[number, 2] - 1
                pieces[at] = rest[number]
                pieces[at, 2], pieces[at, 3] = taken, 0
                rest[known] = rest[number]
                rest[known, 1] += taken
                rest[known, 2] -= taken
                behind = rest[known, 2] + 1 + rest[known, 3]
                links[known] = head[behind]
                head[behind] = known
                known += 1
                size = taken + 1
            placed[at, 0], placed[at, 1] = sequence, context - room
            at += 1
            room -= size
        sequence += 1
    return pieces[:at].copy(), placed[:at].copy()


@numba.njit(cache=True)
def _spans(cut: np.ndarray, place: np.ndarray, rows: np.ndarray, lengths: np.ndarray, bounds: np.ndarray, join: int):
    """((S, 4) spans, (S,) piece of each): the parts of rows that the pieces are made of."""
    size_of = len(cut) + len(rows) + 1
    out, owner, at = np.empty((size_of, 4), np.int64), np.empty(size_of, np.int64), 0
    begins = np.zeros(len(rows) + 1, np.int64)
    begins[1:] = np.cumsum(lengths + join)
    for q in range(len(cut)):
        low_row, high_row = bounds[cut[q, 0]], bounds[cut[q, 0] + 1]
        first = begins[low_row] + cut[q, 1]
        end = first + cut[q, 2]
        r = low_row + max(0, np.searchsorted(begins[low_row:high_row], first, side="right") - 1)
        while r < high_row and begins[r] < end:
            low, high = max(first, begins[r]), min(end, begins[r] + lengths[r])
            if high > low:
                out[at, 0], out[at, 1], out[at, 2], out[at, 3] = (
                    rows[r],
                    low - begins[r],
                    high - low,
                    place[q] + 1 + low - first,
                )
                owner[at] = q
                at += 1
            r += 1
    return out[:at].copy(), owner[:at].copy()
