"""Spans hidden in rows of unequal length, and other places of a row: what holds for any lengths and draws."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw
from selftaught.views.spans import other_places, span_masks

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=6)


def runs(row: list[bool]) -> list[int]:
    """Lengths of the stretches of True."""
    found, now = [], 0
    for held in [*row, False]:
        if held:
            now += 1
        elif now:
            found.append(now)
            now = 0
    return found


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(0, 10**6), st.sampled_from([0.3, 0.65, 0.8, 0.95]), st.integers(1, 12))
def test_spans_lie_in_the_row_are_whole_and_leave_enough(lengths, seed, share, span):
    rows = torch.tensor(lengths)
    hidden = span_masks(rows, Draw(torch.arange(len(lengths)), seed), share, span)
    assert hidden.shape == (len(lengths), max(lengths))
    for row, length in zip(hidden.tolist(), lengths, strict=True):
        count = sum(row)
        assert not any(row[length:])
        assert count <= 0.8 * length
        assert (length < 3) == (count == 0)
        assert count == 0 or length - count >= 2
        own = min(span, max(1, length // 4))
        assert all(run >= own for run in runs(row))


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(0, 10**6))
def test_a_row_depends_on_its_length_and_its_draw_alone(lengths, seed):
    rows, index = torch.tensor(lengths), torch.arange(len(lengths)) + 5
    together = span_masks(rows, Draw(index, seed), 0.65, 10, width=80)
    for number, length in enumerate(lengths):
        alone = span_masks(rows[number : number + 1], Draw(index[number : number + 1], seed), 0.65, 10)
        assert torch.equal(together[number, :length], alone[0, :length])


def test_about_half_is_hidden_at_the_published_share():
    draw = Draw(torch.arange(400), 1)
    hidden = span_masks(torch.full((400,), 200), draw, 0.65, 10)
    assert abs(float(hidden.double().mean()) - 0.49) < 0.02  # 1 - exp(-0.65), less at the ends, where fewer spans reach
    many = span_masks(torch.full((400,), 7), draw, 0.65, 10).sum(1)
    assert many.min() >= 1
    assert many.max() <= 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 10**6))
def test_others_are_others_of_the_same_row(counts, seed):
    found = other_places(torch.tensor(counts), Draw(torch.arange(len(counts)), seed), 50, 9)
    for row, count in zip(found, counts, strict=True):
        for place in range(9):
            if count > 1 and place < count:
                chosen = set(row[place].tolist())
                assert place not in chosen
                assert chosen <= set(range(count))
            else:
                assert bool((row[place] <= max(0, count - 1)).all())


def test_others_are_drawn_evenly():
    found = other_places(torch.full((2000,), 5), Draw(torch.arange(2000), 3), 20, 5)
    for place in range(5):
        share = torch.bincount(found[:, place].flatten(), minlength=5) / 40_000
        wanted = torch.full((5,), 0.25)
        wanted[place] = 0
        assert (share - wanted).abs().max() < 0.01
