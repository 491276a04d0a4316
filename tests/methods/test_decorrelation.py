"""Barlow Twins, VICReg, LeJEPA and EMP-SSL: the objective of their projections, and what LeJEPA draws."""

import numpy as np
import pytest
import torch

from selftaught.core import RequestError, View
from selftaught.methods.barlow_twins import BarlowTwins
from selftaught.methods.emp_ssl import EMPSSL
from selftaught.methods.lejepa import LeJEPA
from selftaught.methods.vicreg import VICReg

from ..losses.test_statistics import barlow_by_loops, coding_rate_by_eigenvalues, epps_pulley_by_sums, vicreg_by_loops
from .small import batch_of, convolutional, made, pictures, tokens


def projected(method, head, batch) -> list[np.ndarray]:
    """One (B, P) a view."""
    features = torch.cat([method.encoder(v) for v in batch.views])
    return list(head(features).detach().numpy().reshape(len(batch.views), len(batch), -1))


def test_barlow_twins_is_the_correlation_of_its_projections():
    method = made(BarlowTwins(hidden=12, width=5, weight=0.1, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    out = method(batch)
    assert out["loss"].item() == pytest.approx(
        barlow_by_loops(*projected(method, method.projector, batch), 0.1, 1e-5), abs=1e-9
    )
    assert float(out["baseline"]) == 5


def test_vicreg_is_its_three_terms_of_its_projections():
    method = made(VICReg(hidden=12, width=5, similarity=3, variance=7, covariance=2, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    wanted = vicreg_by_loops(*projected(method, method.expander, batch), (3, 7, 2))
    assert method(batch)["loss"].item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("method", [BarlowTwins(), VICReg(), EMPSSL(crops=3)])
def test_coupling_their_embeddings_is_their_loss(method):
    method = made(method, tokens())
    batch = batch_of(method, pictures())
    torch.testing.assert_close(method.couple(method.embed(batch))["loss"], method(batch)["loss"], rtol=0, atol=1e-12)


def test_lejepa_is_prediction_of_the_centre_and_the_mean_statistic_of_every_view():
    method = made(LeJEPA(hidden=12, width=5, crops=1, directions=7, weight=0.3, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    z = np.stack(projected_views(method, batch))
    centre = z[:2].mean(0)
    prediction = np.mean([(view - centre) ** 2 for view in z])
    sketch = method._sketch(batch).double().numpy()
    normality = np.mean([epps_pulley_by_sums(view @ d, 5.0, 17) for view in z for d in sketch.T])
    out = method(batch)
    assert out["loss"].item() == pytest.approx(0.7 * prediction + 0.3 * normality, abs=1e-6)
    assert float(out["prediction"]) == pytest.approx(prediction)
    assert float(out["normality"]) == pytest.approx(normality, abs=1e-6)


def projected_views(method, batch) -> list[np.ndarray]:
    large, small = View.cat(batch.views[:2]), View.cat(batch.views[2:])
    features = torch.cat([method.encoder(large), method.encoder(small)])
    return list(method.projector(features).detach().numpy().reshape(len(batch.views), len(batch), -1))


def test_lejepa_looks_along_new_unit_directions_at_every_step():
    method = made(LeJEPA(width=6, directions=9), convolutional())
    first, again, later = (method._sketch(batch_of(method, pictures(), step=s)) for s in (3, 3, 4))
    assert first.shape == (6, 9)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(9))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_emp_ssl_is_the_coding_rate_of_every_crop_and_their_cosine_to_the_mean():
    method = made(EMPSSL(hidden=12, width=5, crops=3, similarity=7.0, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    z = np.stack(projected(method, method.projector, batch))  # (V, B, P)
    unit = z / np.linalg.norm(z, axis=2, keepdims=True)
    centre = unit.mean(0)
    cosines = [u[b] @ centre[b] / np.linalg.norm(centre[b]) for u in unit for b in range(6)]
    volume = np.mean([coding_rate_by_eigenvalues(view, 0.2) for view in z])
    out = method(batch)
    assert out["loss"].item() == pytest.approx(-7 * np.mean(cosines) - volume, abs=1e-9)
    assert float(out["similarity"]) == pytest.approx(np.mean(cosines))
    assert float(out["coding_rate"]) == pytest.approx(volume)
    with pytest.raises(RequestError, match="crops = 1"):
        made(EMPSSL(crops=1), tokens())
