"""Barlow Twins, VICReg and the Epps-Pulley statistic against loops and numerical integration in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.autograd import gradcheck

from selftaught import losses

from .test_losses import normal


def barlow_by_loops(a: np.ndarray, b: np.ndarray, weight: float, epsilon: float) -> float:
    width, total = a.shape[1], 0.0
    for i in range(width):
        for j in range(width):
            x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            c = (x * y).mean() / math.sqrt(((x**2).mean() + epsilon) * ((y**2).mean() + epsilon))
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def test_barlow_twins():
    a, b = normal(7, 4), normal(7, 4, seed=1) * 3 + 2
    loss = losses.barlow_twins(a, b, weight=0.3)
    assert float(loss) == pytest.approx(barlow_by_loops(a.numpy(), b.numpy(), 0.3, 1e-5), abs=1e-12)


def test_barlow_twins_of_equal_views_of_independent_dimensions_is_nearly_zero():
    """Rows of a Hadamard matrix: dimensions that are exactly uncorrelated."""
    h = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)[:, 1:]
    assert float(losses.barlow_twins(h, h)) == pytest.approx(0, abs=1e-8)
    assert float(losses.barlow_twins(h, 5 * h + 1)) == pytest.approx(0, abs=1e-8), "scale and shift do not count"


def vicreg_by_loops(a: np.ndarray, b: np.ndarray, weights: tuple[float, float, float]) -> float:
    rows, width = a.shape
    apart = sum((a[i, j] - b[i, j]) ** 2 for i in range(rows) for j in range(width)) / (rows * width)
    spread = redundant = 0.0
    for x in (a, b):
        table = np.cov(x.T)
        spread += sum(max(0.0, 1 - math.sqrt(table[j, j] + 1e-4)) for j in range(width)) / width / 2
        redundant += sum(table[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width
    return weights[0] * apart + weights[1] * spread + weights[2] * redundant


def test_vicreg():
    a, b = normal(9, 5) * torch.tensor([0.1, 2, 0.5, 1, 0.3], dtype=torch.float64), normal(9, 5, seed=1)
    loss, terms = losses.vicreg(a, b, similarity=3, variance=5, covariance=2)
    assert float(loss) == pytest.approx(vicreg_by_loops(a.numpy(), b.numpy(), (3, 5, 2)), abs=1e-12)
    parts = 3 * terms["similarity"] + 5 * terms["variance"] + 2 * terms["covariance"]
    assert float(parts) == pytest.approx(float(loss))


def test_vicreg_of_collapsed_rows_has_no_variance_at_all():
    loss, terms = losses.vicreg(torch.ones(6, 3), torch.ones(6, 3))
    assert float(terms["variance"]) == pytest.approx(0.99)  # 1 - sqrt(1e-4)
    assert float(loss) == pytest.approx(25 * 0.99)
    with pytest.raises(ValueError, match="two rows"):
        losses.vicreg(torch.ones(1, 3), torch.ones(1, 3))


def epps_pulley_by_sums(values: np.ndarray, reach: float, knots: int) -> float:
    """One direction: the trapezoidal rule over all knots, both signs."""
    t = np.linspace(-reach, reach, knots)
    found = np.array([np.exp(1j * s * values).mean() for s in t])
    integrand = np.abs(found - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    return len(values) * np.trapezoid(integrand, t)


def test_epps_pulley_is_the_mean_over_directions_of_the_trapezoidal_rule():
    x, directions = normal(11, 6) * 0.7 + 0.2, torch.nn.functional.normalize(normal(6, 4, seed=1), dim=0)
    wanted = np.mean([epps_pulley_by_sums((x @ d).numpy(), 5.0, 17) for d in directions.T])
    assert float(losses.epps_pulley(x, directions)) == pytest.approx(wanted, abs=1e-12)


def test_epps_pulley_of_one_point_is_the_integral_in_closed_form():
    """All rows at 0: phi_N = 1, and the integral of (1 - exp(-t^2/2))^2 exp(-t^2/2)."""
    exact, _ = quad(lambda t: (1 - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2), -np.inf, np.inf)
    x, direction = torch.zeros(8, 2, dtype=torch.float64), torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    assert float(losses.epps_pulley(x, direction, reach=8, knots=65)) == pytest.approx(8 * exact, abs=1e-6)


def test_epps_pulley_tells_normal_rows_from_others():
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(normal(3, 20, seed=2), dim=0)
    gauss = torch.randn(4000, 3, dtype=torch.float64, generator=draw)
    sides = torch.where(torch.rand(4000, 3, generator=draw) < 0.5, -1.0, 1.0).double()
    found = [float(losses.epps_pulley(x, directions)) for x in (gauss, sides, 2 * gauss, gauss + 0.5)]
    assert found[0] < 3 < 50 < min(found[1:])
    with pytest.raises(ValueError, match="odd"):
        losses.epps_pulley(gauss, directions, knots=16)


def test_their_gradients():
    a, b = normal(5, 3, grad=True), normal(5, 3, seed=1, grad=True)
    directions = torch.nn.functional.normalize(normal(3, 4, seed=2), dim=0)
    assert gradcheck(losses.barlow_twins, (a, b))
    assert gradcheck(lambda x, y: losses.vicreg(x, y)[0], (a, b))
    assert gradcheck(lambda x: losses.epps_pulley(x, directions), (a,))


def coding_rate_by_eigenvalues(x: np.ndarray, distortion: float) -> float:
    """log det as a sum over the eigenvalues of the rows' second moments."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return sum(math.log(1 + x.shape[1] / (len(x) * distortion) * v) for v in np.linalg.svd(unit)[1] ** 2) / 2


def test_coding_rate_is_half_the_logarithm_of_the_volume():
    x = torch.stack([normal(9, 4), 3 * normal(9, 4, seed=1) + 1])
    wanted = [coding_rate_by_eigenvalues(v.numpy(), 0.3) for v in x]
    np.testing.assert_allclose(losses.coding_rate(x, distortion=0.3).numpy(), wanted, atol=1e-12)
    assert gradcheck(losses.coding_rate, (normal(5, 3, grad=True),))


def test_coding_rate_is_least_for_one_direction_and_most_for_all():
    one = torch.ones(8, 4, dtype=torch.float64)
    all_of_them = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    assert float(losses.coding_rate(one)) == pytest.approx(math.log(1 + 4 / 0.2) / 2)
    assert float(losses.coding_rate(all_of_them)) == pytest.approx(4 * math.log(1 + 1 / 0.2) / 2)


def koleo_by_loops(x: np.ndarray, epsilon: float) -> float:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    gaps = [min(np.linalg.norm(a - b) for j, b in enumerate(unit) if j != i) for i, a in enumerate(unit)]
    return -np.mean([math.log(math.hypot(g, epsilon)) for g in gaps])


def test_koleo():
    x = normal(9, 4)
    assert float(losses.koleo(x)) == pytest.approx(koleo_by_loops(x.numpy(), 1e-4), abs=1e-12)
    assert gradcheck(losses.koleo, (normal(5, 3, grad=True),))
    with pytest.raises(ValueError, match="two rows"):
        losses.koleo(normal(1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_koleo_of_equal_rows_is_finite_and_so_is_its_gradient(dtype):
    """Distance 0: a plain log is infinite, and its gradient not a number."""
    x = torch.ones(6, 4, dtype=dtype)
    x[3:] += torch.tensor([0, 1, 0, 0], dtype=dtype)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.koleo(x)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(-math.log(1e-4), rel=1e-3)
    assert x.grad.isfinite().all()
