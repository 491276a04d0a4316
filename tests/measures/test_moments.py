"""Whitening, generalised eigenvectors, principal axes and eigenmaps against scipy and definitions in float64."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.measures import moments


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.standard_normal((n, d)) @ draw.standard_normal((d, d)) + 3.0).float()


def test_whitened_patches_have_the_moments_that_the_floor_leaves():
    x = cloud(4000, 9)
    filters = moments.whitening(x, keep=1.0, floor=0.05).double()
    own = x.double() - x.double().mean(1, keepdim=True)  # each patch's own mean, and no mean patch
    values = np.linalg.eigvalsh((own.T @ own / len(own)).numpy())[::-1].clip(0)
    z = own @ filters.T
    wanted = values / (values + 0.05 * values.mean())
    np.testing.assert_allclose(z.T @ z / len(z), np.diag(wanted), atol=1e-5)
    torch.testing.assert_close(x.double() @ filters.T, z, atol=1e-4, rtol=0)  # the filters take the mean off themselves


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100.0), st.floats(-200.0, 200.0))
def test_whitening_knows_neither_contrast_nor_brightness(contrast, brightness):
    x = cloud(300, 12)
    z = x @ moments.whitening(x, keep=0.9, floor=0.04).T
    other = contrast * x + brightness
    again = other @ moments.whitening(other, keep=0.9, floor=0.04).T
    torch.testing.assert_close(again, z, atol=2e-2, rtol=1e-2)


def test_whitening_keeps_as_few_filters_as_do():
    x = torch.randn(5000, 24, generator=torch.Generator().manual_seed(0)) * torch.tensor([30.0] * 8 + [0.1] * 16)
    assert len(moments.whitening(x, keep=0.5, floor=0.04)) == 8
    assert len(moments.whitening(x, keep=0.9999, floor=1e-9)) == 24
    assert moments.whitening(torch.ones(50, 4), keep=0.9, floor=0.04).isfinite().all()


@pytest.mark.parametrize("exact", [1024, 100], ids=["full", "iterated"])
def test_generalised_eigenvectors_are_those_of_float64(exact, monkeypatch):
    monkeypatch.setattr(moments, "_EXACT", exact)
    size = 240
    draw = np.random.default_rng(1)
    count = 6
    a, b = draw.standard_normal((size, size)), draw.standard_normal((size, size))
    total = b @ b.T / size + np.eye(size)
    lead = a[:, :12] * 2.0 ** -np.arange(12)
    between = lead @ lead.T + 1e-3 * np.eye(size)
    held = total + 0.01 * np.trace(total) / size * np.eye(size)
    wanted, vectors = scipy.linalg.eigh(between, held)
    wanted, vectors = wanted[::-1][:count], vectors[:, ::-1][:, :count]
    values, found = moments.generalised_eigenvectors(torch.tensor(between), torch.tensor(total), count, ridge=0.01)
    np.testing.assert_allclose(values, wanted, rtol=2e-3)
    overlap = np.abs(np.diag(vectors.T @ held @ found.double().numpy()))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_second_moments_put_what_is_constant_into_the_first_vector():
    """With covariances instead, a constant part of the codes would be left in all vectors."""
    draw = np.random.default_rng(0)
    rates = draw.uniform(0.01, 0.2, (3, 40))
    image = draw.integers(0, 3, 300)
    codes = (draw.uniform(size=(300, 50, 40)) < rates[image][:, None]).astype(float)
    h = codes.mean(1)
    flat = codes.reshape(-1, 40)
    _, vectors = moments.generalised_eigenvectors(
        torch.tensor(h.T @ h / 300), torch.tensor(flat.T @ flat / len(flat)), 3, ridge=0.01
    )
    means = np.abs((h @ vectors.double().numpy()).mean(0)) / np.sqrt(((h @ vectors.double().numpy()) ** 2).mean(0))
    assert means[0] > 0.99
    assert means[1:].max() < 0.2


def test_empty_codes_have_eigenvectors_all_the_same():
    nothing = torch.zeros(8, 8)
    values, vectors = moments.generalised_eigenvectors(nothing, nothing, 3, ridge=0.01)
    assert not values.any()
    assert vectors.isfinite().all()


@pytest.mark.parametrize("shape", [(200, 20), (15, 40), (220, 260)])
@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_principal_axes_are_those_of_a_singular_value_decomposition(shape, power, monkeypatch):
    monkeypatch.setattr(moments, "_EXACT", 100)  # the last shape goes by iteration
    size, make = min(*shape, 8), torch.Generator().manual_seed(0)
    x = (
        torch.randn(shape[0], size, generator=make)
        * 2.0 ** -torch.arange(size)
        @ torch.randn(size, shape[1], generator=make)
        + 3
    )
    mean, axes = moments.principal_axes(x, 5, power=power)
    centred = x.double() - x.double().mean(0)
    _, s, v = torch.linalg.svd(centred, full_matrices=False)
    wanted = v[:5].T * (s[:5] ** 2 / len(x)) ** -power
    torch.testing.assert_close(mean, x.mean(0), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(
        (axes.double() * wanted.sign()).abs(), wanted.abs(), atol=2e-3 * float(wanted.abs().max()), rtol=0
    )


def test_eigenmaps_of_two_rings_tell_them_apart():
    angle = torch.linspace(0, 2 * np.pi, 41)[:-1]
    ring = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    rows = torch.cat([torch.cat([ring, torch.full((40, 1), up)], 1) for up in (3.0, -3.0)])
    maps = moments.eigenmaps(torch.nn.functional.normalize(rows, dim=1), 6, neighbours=4)
    side = torch.arange(80) < 40
    spread = maps[side].mean(0) - maps[~side].mean(0)
    assert maps.shape == (80, 6)
    assert spread.abs().max() > 1.0


def test_eigenmaps_solve_the_laplacian():
    rows = torch.nn.functional.normalize(cloud(60, 5) - 3, dim=1)
    maps = moments.eigenmaps(rows, 4, neighbours=6).double().numpy()
    cosines = (rows @ rows.T).double().numpy()
    np.fill_diagonal(cosines, -2)
    joined = np.zeros((60, 60))
    for i in range(60):
        joined[i, np.argsort(-cosines[i])[:6]] = 1
    joined = np.maximum(joined, joined.T)
    degree = np.diag(joined.sum(1))
    wanted, _ = scipy.linalg.eigh(degree - joined, degree)
    np.testing.assert_allclose(maps.T @ degree @ maps / degree.sum(), np.eye(4), atol=1e-5)
    quotient = np.diag(maps.T @ (degree - joined) @ maps) / degree.sum()
    np.testing.assert_allclose(quotient, wanted[1:5], atol=1e-5)


def test_integers_keep_the_shape_of_vectors():
    vectors = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    found = moments.quantised(vectors)
    assert found.dtype == torch.int8
    assert int(found.abs().max()) == 127
    cosine = torch.nn.functional.cosine_similarity(found.float(), vectors, dim=0)
    assert cosine.min() > 0.999
    assert not moments.quantised(torch.zeros(3, 2)).any()


def test_a_rotation_changes_no_cosine_and_spreads_what_is_uneven():
    turn = moments.rotation(40, 3)
    assert torch.allclose(turn @ turn.T, torch.eye(40, dtype=torch.float64), atol=1e-12)
    assert torch.equal(turn, moments.rotation(40, 3))
    assert not torch.allclose(turn, moments.rotation(40, 4))
    x = torch.randn(200, 40, generator=torch.Generator().manual_seed(0)).double() * torch.logspace(0, -2, 40).double()
    spread = lambda z: float(z.std(0).max() / z.std(0).min())  # noqa: E731
    assert spread(x @ turn) < 5 < 50 < spread(x)
    assert torch.allclose(x @ x.T, (x @ turn) @ (x @ turn).T)
