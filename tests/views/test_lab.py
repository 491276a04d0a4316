"""CIE Lab against published values, and the bins of Zhang et al."""

import numpy as np
import pytest
import torch

from selftaught.views.lab import bins, soft_bins, to_lab

KNOWN = {  # sRGB -> Lab under D65, as colour tables print them
    (1, 0, 0): (53.24, 80.09, 67.20), (0, 1, 0): (87.74, -86.18, 83.18), (0, 0, 1): (32.30, 79.19, -107.86),
    (1, 1, 1): (100, 0, 0), (0, 0, 0): (0, 0, 0), (0, 1, 1): (91.11, -48.09, -14.13), (1, 1, 0): (97.14, -21.55, 94.48),
    (0.5, 0.5, 0.5): (53.39, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize(("rgb", "wanted"), KNOWN.items())
def test_known_colours(rgb, wanted):
    np.testing.assert_allclose(to_lab(torch.tensor([rgb], dtype=torch.float64))[0], wanted, atol=0.01)


def test_dark_and_light_branches_meet():
    grey = torch.linspace(0, 0.2, 2001, dtype=torch.float64)[:, None].expand(-1, 3)
    steps = to_lab(grey)[:, 0].diff()
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.median()


def test_every_colour_has_its_bin_among_them():
    centres = bins()
    assert len(centres.unique(dim=0)) == len(centres)
    assert 240 <= len(centres) <= 313
    colours = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    assert torch.cdist(to_lab(colours)[:, 1:], centres).min(1).values.max() <= 10 / 2 * 2**0.5 + 1e-3


def test_soft_bins_weigh_the_five_nearest():
    centres = bins()
    ab = torch.tensor([[3.0, -4.0], [40.0, 41.0]])
    index, weight = soft_bins(ab, centres)
    for row in range(2):
        far = ((centres - ab[row]) ** 2).sum(1).sqrt().numpy()
        nearest = np.argsort(far)[:5]
        assert set(index[row].tolist()) == set(nearest.tolist())
        wanted = np.exp(-(far[index[row].numpy()] ** 2) / 50)
        np.testing.assert_allclose(weight[row], wanted / wanted.sum(), rtol=1e-5)
