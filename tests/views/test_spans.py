"""Span masks from true lengths: never in the padding, never too much of a short row, the share that was asked for."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.views.masks import random_tokens, run_numbers
from selftaught.views.spans import span_masks

from .pictures import draw


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=12), st.floats(0.05, 0.95), st.integers(1, 12),
    st.integers(0, 4), st.integers(0, 99),
)  # fmt: skip
def test_masks_lie_in_the_row_leave_enough_and_hide_something(lengths, share, span, least, seed):
    length = torch.tensor(lengths)
    masks = span_masks(length, draw(len(lengths), seed), share, span, least)
    assert masks.shape == (len(lengths), max(lengths))
    for row, count in zip(masks, lengths, strict=True):
        hidden = int(row.sum())
        wide = min(span, max(1, count // 4))
        assert not row[count:].any()
        assert hidden <= 0.8 * count
        if hidden:
            assert count - hidden >= least
            assert hidden % wide == 0  # spans are whole and do not overlap
            runs = torch.diff(row.long(), prepend=torch.tensor([0]), append=torch.tensor([0])).nonzero().flatten()
            assert all((b - a) % wide == 0 for a, b in runs.view(-1, 2).tolist())
        else:
            assert min(0.8 * count, count - least) < wide


def test_a_rows_mask_depends_on_its_length_and_draw_alone():
    lengths = torch.tensor([8, 40, 3, 21])
    together = span_masks(lengths, draw(4, 5), 0.5, 5, width=64)
    assert together.shape == (4, 64)
    for row in range(4):
        own = replace(draw(4, 5), index=draw(4, 5).index[row : row + 1])
        alone = span_masks(lengths[row : row + 1], own, 0.5, 5)
        assert torch.equal(together[row, : lengths[row]], alone[0])
    assert not torch.equal(together, span_masks(lengths, draw(4, 6), 0.5, 5, width=64))


@pytest.mark.parametrize(("length", "share", "span"), [(60, 0.65, 10), (10, 0.5, 3), (25, 0.4, 10), (8, 0.65, 10)])
def test_the_share_is_what_was_asked_for(length, share, span):
    """transformers' masks of a nominal 0.65 hide 0.49 of 60 frames, and up to all of 20."""
    masks = span_masks(torch.full((4000,), length), draw(4000, 1), share, span)
    assert masks.float().mean().item() == pytest.approx(share, abs=0.02)
    assert masks.any(1).all()
    often = masks.float().mean(0)
    assert often.min() > 0.2 * share  # no place is spared, though the ends are hidden less often than the middle


def test_rows_that_are_no_longer_than_what_must_be_left_are_not_masked():
    masks = span_masks(torch.tensor([1, 2, 3]), draw(3, 0), 0.9, 4)
    assert masks.sum(1).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("share", "span"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_masks_that_nothing_is_like_are_refused(share, span):
    with pytest.raises(ValueError, match="no masks are like that"):
        span_masks(torch.tensor([5]), draw(1, 0), share, span)


def test_runs_are_as_many_tokens_and_come_together():
    valid = torch.arange(40) < torch.tensor([40, 40, 9, 2])[:, None]
    alone, runs = (random_tokens(draw(4, 3), valid, 0.5, span=s) for s in (1, 5))
    assert torch.equal(alone.sum(1), runs.sum(1))
    changes = lambda m: int((m[:2, 1:] != m[:2, :-1]).sum())  # noqa: E731
    assert changes(runs) < changes(alone) / 2
    assert not (runs & ~valid).any()
    numbers = run_numbers(draw(4, 3), valid, 5)
    kinds = [len(set(row.tolist())) for row in numbers]
    assert kinds[0] in (8, 9)  # 40 tokens in runs of 5, the first and last perhaps cut
    assert len(set(numbers[2, :9].tolist())) in (5, 6)  # a quarter of 9: runs of 2
