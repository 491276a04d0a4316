"""Spans cut out of texts: shares, places, independence of rows, and what is put in their place."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw
from selftaught.views.infilling import (
    closed_up,
    cut_out,
    infill_spans,
    noise_spans,
    parts_of,
    poisson,
    shuffle_sentences,
    starts_of,
)

BEGIN, END, MASK = 1, 2, 3


def rows(lengths, width=None):
    """ids (B, N) of BEGIN, 10, 11, ..., END and padding; what is valid; what is no mark."""
    width = width or max(lengths) + 2
    place, length = torch.arange(width), torch.tensor(lengths)[:, None]
    ids = torch.where(place == 0, BEGIN, torch.where(place == length + 1, END, place + 9))
    valid = place < length + 2
    ids = ids.masked_fill(~valid, 0)
    return ids, valid, valid & (ids >= 4)


def draw(count, seed=0):
    return Draw(torch.arange(count), seed=seed)


def runs(span):
    """[(number, first, length)] of the spans of one row."""
    found = []
    for place, number in enumerate(span):
        if number and (not place or span[place - 1] != number):
            found.append([number, place, 0])
        if number:
            found[-1][2] += 1
    return [tuple(f) for f in found]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.sampled_from([0.15, 0.3, 0.5, 0.9]),
    mean=st.sampled_from([1.0, 3.0, 8.0]),
    most=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_noise_spans_keep_their_promises(lengths, share, mean, most, seed):
    _, _valid, able = rows(lengths)
    spans = noise_spans(able, draw(len(lengths), seed), share=share, mean=mean, most=most, room=60)
    assert not (spans > 0)[~able].any(), "a mark was taken"
    for row, n in enumerate(lengths):
        found = runs(spans[row].tolist())
        gone = sum(size for _, _, size in found)
        wanted = min(max(1, round(share * n)), max(1, n - 1))
        assert gone == wanted
        assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
        assert len(found) <= most
        assert len(found) == min(max(1, round(gone / mean)), gone, n - gone + 1, most)
        for (_, first, size), (_, second, _) in itertools.pairwise(found):
            assert second > first + size, "two spans touch"


def test_a_row_is_a_function_of_itself_and_its_draw_alone():
    lengths = [20, 3, 11]
    _, _, able = rows(lengths)
    whole = noise_spans(able, draw(3), share=0.3, mean=2, most=9, room=40)
    for row, n in enumerate(lengths):
        _, _, own = rows([n])
        alone = noise_spans(own, Draw(torch.tensor([row])), share=0.3, mean=2, most=9, room=40)
        assert torch.equal(alone[0], whole[row, : n + 2])
        assert not whole[row, n + 2 :].any()


def test_short_texts_lose_any_of_their_tokens():
    """T5's own division always ends with a span: of twenty tokens it would only ever take the last three."""
    _, _, able = rows([20] * 2000)
    spans = noise_spans(able, draw(2000), share=0.15, mean=3, most=9, room=40)
    starts = Counter(runs(row)[0][1] for row in spans.tolist())
    assert set(starts) == set(range(1, 19))
    assert all(abs(count - 2000 / 18) < 5 * math.sqrt(2000 / 18) for count in starts.values())


def test_room_bounds_what_is_written():
    _, _, able = rows([100, 30])
    spans = noise_spans(able, draw(2), share=0.9, mean=1.0, most=99, room=20)
    _written, there = cut_out(rows([100, 30])[0], spans, 200)
    assert there.sum(1).max() <= 22
    assert (spans > 0).sum(1).min() >= 10


def test_every_division_is_alike_likely():
    items, count = torch.full((6000,), 5), torch.full((6000,), 3)
    sizes = parts_of(items, count, draw(6000).uniform("x", 7))
    found = Counter(map(tuple, sizes.tolist()))
    assert set(found) == {(a, b, 5 - a - b) for a in range(1, 4) for b in range(1, 5 - a)}
    assert all(abs(n - 1000) < 150 for n in found.values())


def test_source_and_target_put_together_are_the_text():
    """Known answer, then: every sentinel of the source replaced by its tokens of the target gives the row back."""
    ids = torch.tensor([[1, 10, 11, 12, 13, 14, 2, 0]])
    spans = torch.tensor([[0, 0, 1, 1, 0, 2, 0, 0]])
    source, valid = closed_up(ids, ids > 0, spans, 50)
    assert source.tolist() == [[1, 10, 50, 13, 51, 2]]
    assert valid.all()
    target, there = cut_out(ids, spans, 50)
    assert target.tolist() == [[1, 50, 11, 12, 51, 14, 2]]
    assert there.all()
    lengths = [1, 2, 5, 19, 33]
    ids, valid, able = rows(lengths)
    spans = noise_spans(able, draw(5, 8), share=0.4, mean=2, most=30, room=60)
    (source, valid), (target, there) = closed_up(ids, valid, spans, 100), cut_out(ids, spans, 100)
    for row, n in enumerate(lengths):
        pieces, last = {}, None
        for i in target[row][there[row]].tolist()[1:-1]:
            if i >= 100:
                last = pieces.setdefault(i, [])
            else:
                last.append(i)
        back = [t for i in source[row][valid[row]].tolist() for t in pieces.get(i, [i])]
        assert back == ids[row, : n + 2].tolist()
        assert sorted(pieces) == list(range(100, 100 + len(pieces)))


def test_poisson_numbers_have_their_mean_and_variance():
    number = draw(1).uniform("x", 50_000)
    got = poisson(number, 3.0).double()
    assert got.mean() == pytest.approx(3, abs=0.05)
    assert got.var() == pytest.approx(3, abs=0.1)
    assert (got == 0).double().mean() == pytest.approx(math.exp(-3), abs=0.005)


def test_infilling_hides_its_share_and_a_row_never_grows():
    lengths = [1, 2, 7, 40, 40, 200]
    ids, valid, able = rows(lengths)
    for seed in range(5):
        spans, empty = infill_spans(able, draw(6, seed), share=0.3, mean=3.0)
        assert not empty[~able].any()
        assert not (empty & (spans > 0)).any()
        assert ((spans > 0).sum(1) <= torch.ceil(0.3 * able.sum(1))).all()
        source, there = closed_up(ids, valid, spans, None, empty)
        for row, n in enumerate(lengths):
            kept = [i for i in source[row][there[row]].tolist() if i != MASK]
            assert kept == [i for i, s in zip(ids[row, : n + 2].tolist(), spans[row].tolist()) if not s]
            masks = source[row][there[row]].eq(MASK).sum()
            assert masks == starts_of(spans)[row].sum() + empty[row].sum()
            assert there[row].sum() <= n + 2
    spans, _ = infill_spans(rows([300] * 50)[2], draw(50), share=0.3, mean=3.0)
    assert ((spans > 0).sum(1) == 90).double().mean() > 0.9
    assert any(run[2] == 1 for run in runs(spans[0].tolist()))


def test_sentences_change_places_and_nothing_else_does():
    ends, begins = torch.zeros(30, dtype=torch.bool), torch.ones(30, dtype=torch.bool)
    ends[20] = True
    begins[9] = False  # does not begin a word, so 20 before it ends no sentence
    row = [1, 10, 11, 20, 12, 20, 9, 13, 20, 14, 2, 0, 0]
    ids = torch.tensor([row] * 300)
    able = ids >= 4
    got = shuffle_sentences(ids, able, ends, begins, draw(300))
    sentences = [(10, 11, 20), (12, 20, 9, 13, 20), (14,)]
    orders = Counter()
    for one in got.tolist():
        assert one[0] == 1
        assert one[10:] == row[10:]
        left, order = one[1:10], []
        while left:
            k = next(k for k, s in enumerate(sentences) if left[: len(s)] == list(s))
            order.append(k)
            left = left[len(sentences[k]) :]
        orders[tuple(order)] += 1
    assert len(orders) == 6
    assert min(orders.values()) > 20
