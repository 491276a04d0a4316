import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selftaught.views import block_masks, random_patches, random_tokens, rectangles

from .pictures import draw


def check_division(patches, n, count):
    rows = len(patches.dropped)
    assert patches.drop.shape == (rows, count)
    assert patches.keep.shape == (rows, n - count)
    both = torch.cat([patches.keep, patches.drop], 1).sort(1).values
    assert torch.equal(both, torch.arange(n).expand(rows, -1))
    assert torch.equal(patches.dropped.sum(1), torch.full((rows,), count))
    assert bool(patches.dropped.gather(1, patches.drop).all())
    assert bool((patches.keep.diff(dim=1) > 0).all())
    assert bool((patches.drop.diff(dim=1) > 0).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 80), st.floats(0.01, 0.99), st.integers(0, 99))
def test_random_patches_drop_exactly_the_ratio(n, ratio, seed):
    check_division(random_patches(draw(7, seed), n, ratio), n, min(n - 1, max(1, round(ratio * n))))


def test_random_patches_are_uniform_and_differ_by_row_and_step():
    dropped = random_patches(draw(3000), 16, 0.75).dropped
    assert stats.chisquare(dropped.sum(0).numpy()).pvalue > 1e-3
    assert len(np.unique(dropped.numpy(), axis=0)) > 1000
    assert not torch.equal(dropped, random_patches(draw(3000, step=6), 16, 0.75).dropped)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(2, 14), st.floats(0.05, 0.95), st.integers(0, 99))
def test_block_masks_drop_exactly_the_ratio(high, wide, ratio, seed):
    n = high * wide
    check_division(block_masks(draw(5, seed), (high, wide), ratio), n, min(n - 1, max(1, round(ratio * n))))


def test_blocks_hang_together():
    """Neighbours of a dropped token are dropped far more often than under random patches of the same ratio."""

    def together(dropped):
        grid = dropped.view(-1, 14, 14)
        return (grid[:, :, 1:] & grid[:, :, :-1]).sum() / grid.sum()

    blocks = block_masks(draw(200), (14, 14), 0.4).dropped
    random = random_patches(draw(200), 196, 0.4).dropped
    assert together(random) < 0.45 < 0.75 < together(blocks)
    often = blocks.float().mean(0).view(14, 14)
    assert often.min() > 0.02  # every place is reached, and the grid's ends alike
    assert abs(often[:3].mean() - often[-3:].mean()) < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 5), st.integers(0, 99))
def test_rectangles_stay_in_the_grid(high, wide, count, seed):
    inside, boxes = rectangles(draw(6, seed), (high, wide), count)
    top, left, height, width = boxes.unbind(-1)
    assert bool(((top >= 0) & (left >= 0) & (height >= 1) & (width >= 1)).all())
    assert bool(((top + height <= high) & (left + width <= wide)).all())
    for row, block in np.ndindex(6, count):
        y, x, h, w = boxes[row, block].tolist()
        wanted = np.zeros((high, wide), bool)
        wanted[y : y + h, x : x + w] = True
        assert np.array_equal(inside[row, block].view(high, wide).numpy(), wanted)


def test_rectangles_have_the_asked_area_and_aspect():
    _, boxes = rectangles(draw(2000), (64, 64), 1, scale=(0.15, 0.2), aspect=(0.75, 1.5))
    height, width = boxes[:, 0, 2].double(), boxes[:, 0, 3].double()
    area, aspect = (height * width / 64**2).numpy(), (height / width).log().numpy()
    assert stats.kstest(area, stats.uniform(0.15, 0.05).cdf).pvalue > 1e-4
    low, high = np.log(0.75), np.log(1.5)
    assert stats.kstest(aspect, stats.uniform(low, high - low).cdf).statistic < 0.05  # whole tokens: steps, not a line


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_random_tokens_hide_valid_ones_only_and_the_right_number(lengths, ratio):
    valid = torch.arange(20) < torch.tensor(lengths)[:, None]
    hidden = random_tokens(draw(len(lengths)), valid, ratio)
    assert not bool((hidden & ~valid).any())
    wanted = [max(1, round(np.float32(ratio) * np.float32(n))) if n else 0 for n in lengths]
    assert hidden.sum(1).tolist() == wanted


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5])
def test_ratios_that_hide_all_or_nothing_are_refused(ratio):
    with pytest.raises(ValueError, match="ratio"):
        random_patches(draw(2), 16, ratio)
