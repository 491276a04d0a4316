"""The sparse manifold transform: its fit against a dense float64 one, going on from every step, its rules by size and budget."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch

from selftaught import measures, methods, modalities, nets
from selftaught.core import Facts, RequestError, View
from selftaught.data.dataset import Dataset
from selftaught.data.opening import open_source
from selftaught.methods.sparse_manifold import SparseManifold
from selftaught.modalities.image import Image
from selftaught.nets.patch_fit import Plan, dictionary, embedding, fitted_scale, moments_of

OPTIONS = {"preset": "quick", "atoms": 288, "outputs": 12}


@dataclass
class Pictures:
    """Rows of (H, W, C) uint8 with what a fit asks of a data set."""

    rows: np.ndarray

    def __post_init__(self):
        side, _, channels = self.rows.shape[1:]
        self.modality = Image(side, channels, (0.5,) * channels, (0.3,) * channels)

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, index) -> View:
        return self.modality.collate(self.rows[np.asarray(index)])


@cache
def toy(rows: int = 70, side: int = 18, channels: int = 3) -> Pictures:
    """Pictures of the toy set, at another size or with other channels."""
    payloads, _ = Image.toy(rows, 0)
    at = np.linspace(0, 31, side).astype(int)
    return Pictures(np.stack([p[at][:, at][:, :, np.arange(channels) % 3] for p in payloads]))


def prepared(data, seed: int = 0, minutes: float | None = None, **options) -> SparseManifold:
    return SparseManifold(**{**OPTIONS, **options}).prepare(
        Facts(rows=len(data), modality=data.modality, minutes=minutes), seed
    )


def fitted(data, seed: int = 0, **options):
    method = prepared(data, seed, **options)
    states = [({k: v.clone() for k, v in state.items()}, share) for state, share in method.fit(data, None)]
    return method.finish().encoder, states


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("side", [8, 18])
def test_it_goes_on_from_every_step_to_the_same_bits(side, monkeypatch):
    monkeypatch.setattr("selftaught.nets.patch_fit.AT_ONCE", 2000)
    data = toy(70, side)
    encoder, states = fitted(data)
    assert len(states) >= 7
    for state, _ in states:
        method = prepared(data)
        before = {k: v.clone() for k, v in state.items()}
        torch.manual_seed(len(state))
        later = list(method.fit(data, state))
        assert same(state, before)  # what was given is left alone
        assert [share for _, share in later] == [share for s, share in states if int(s["done"]) > int(state["done"])]
        assert same(method.finish().encoder.state_dict(), encoder.state_dict())


def test_states_that_were_yielded_do_not_change_later():
    data = toy()
    method, kept, copies = prepared(data), [], []
    for state, _ in method.fit(data, None):
        kept.append(state)
        copies.append({k: v.clone() for k, v in state.items()})
    assert all(same(a, b) for a, b in zip(kept, copies))
    shares = [share for _, share in fitted(data)[1]]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(isinstance(v, torch.Tensor) for state in kept for v in state.values())


def test_the_fit_is_a_function_of_seed_and_data(monkeypatch):
    data = toy()
    first, _ = fitted(data)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again, _ = fitted(data)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first.state_dict(), again.state_dict())
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    threaded, _ = fitted(data)
    assert same(first.state_dict(), threaded.state_dict())
    other, _ = fitted(data, seed=1)
    assert not torch.equal(first.scales[0].atoms, other.scales[0].atoms)


@pytest.mark.parametrize("grey", [False, True])
def test_moments_and_embedding_are_those_of_dense_codes_in_float64(grey):
    data = toy(40, 18)
    plan = Plan(patch=5, stride=1, fit_stride=2, atoms=96, width=7, skip=3, grey=grey, density=0.05)
    found = dictionary(data, plan, (18, 18), 3, floor=0.04, key=3)
    scale = fitted_scale([plan], 0, (18, 18), 3, {f"scales.0.{k}": v for k, v in found.items()})
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:30]
    everywhere = plan.positions((18, 18), 2)
    between, pairs = moments_of(data, plan, scale, rows, everywhere, 5)
    x = data.fetch(rows)["pixels"].double()
    x = x.mean(1, keepdim=True) if grey else x
    windows = x.unfold(2, 5, 2).unfold(3, 5, 2).permute(0, 2, 3, 1, 4, 5).reshape(30, everywhere, -1)
    z = torch.nn.functional.normalize(windows @ scale.filters.double().T, dim=2)
    cosines = (z @ scale.atoms.double().T).numpy()
    assert np.abs(cosines - float(scale.threshold)).min() > 1e-7
    codes = (cosines >= float(scale.threshold)).astype(float)
    alone = codes.sum(2) == 0
    codes[alone, cosines[alone].argmax(1)] = 1
    assert codes.mean() == pytest.approx(0.05, rel=0.2)
    h, flat = codes.mean(1), codes.reshape(-1, 96)
    np.testing.assert_allclose(between, h.T @ h, atol=1e-4)
    assert (pairs.numpy() == np.triu(flat.T @ flat).astype(int)).all()
    total = flat.T @ flat / len(flat)
    held = total + 0.01 * np.trace(total) / 96 * np.eye(96)
    _, vectors = scipy.linalg.eigh(h.T @ h / 30, held)
    rounded = embedding(between, pairs, plan, images=30, patches=30 * everywhere, ridge=0.01).double().numpy()
    wanted = vectors[:, ::-1][:, 3:10]
    cosine = np.abs((rounded * wanted).sum(0)) / np.linalg.norm(rounded, axis=0) / np.linalg.norm(wanted, axis=0)
    assert cosine.min() > 0.999


def test_fewer_pairs_are_a_sample_of_each_image_of_its_own():
    data = toy(40, 18)
    plan = Plan(patch=5, atoms=96, width=7, skip=3)
    found = dictionary(data, plan, (18, 18), 3, floor=0.04, key=3)
    scale = fitted_scale([plan], 0, (18, 18), 3, {f"scales.0.{k}": v for k, v in found.items()})
    rows = torch.arange(20)
    _, whole = moments_of(data, plan, scale, rows, 4, 5)
    parts = [moments_of(data, plan, scale, some, 4, 5)[1] for some in rows.split(7)]
    assert torch.equal(sum(parts), whole)
    assert not torch.equal(moments_of(data, plan, scale, rows, 4, 6)[1], whole)


@pytest.mark.parametrize(("side", "channels"), [(4, 1), (8, 1), (8, 5), (15, 3), (16, 3), (33, 1), (40, 5), (80, 3)])
def test_any_size_and_channels(side, channels):
    data = toy(12, side, channels)
    encoder, _ = fitted(data, atoms=288)
    features = encoder(data.fetch(np.arange(12)))
    assert features.shape == (12, encoder.dim)
    assert features.isfinite().all()
    assert torch.linalg.matrix_rank(features - features.mean(0)) >= 8
    assert nets.rebuild(encoder.config()).dim == encoder.dim


def test_flat_and_equal_pictures_are_fitted_without_error():
    same_rows = np.tile(np.arange(400, dtype=np.float32).reshape(1, 20, 20, 1) / 2, (6, 1, 1, 1)).astype(np.uint8)
    for rows in (np.full((6, 20, 20, 3), 90, np.uint8), same_rows):
        encoder, _ = fitted(Pictures(rows))
        assert encoder(Pictures(rows).fetch(np.arange(6))).isfinite().all()


def test_the_preset_follows_the_budget():
    class Many:
        """As many rows as CIFAR-10 has, none of which is looked at."""

        modality = Image(32, 3)

        def __len__(self):
            return 60_000

    chosen = {
        minutes: prepared(Many(), minutes=minutes, preset="auto", atoms=None, outputs=None) for minutes in (0.1, 6, 60)
    }
    strides = {minutes: [p.stride for p in method.plans] for minutes, method in chosen.items()}
    assert strides[0.1] == [2, 2]
    assert strides[6] in ([2, 2], [1, 2])  # by the number of threads
    assert strides[60] == [1, 1]
    assert [p.atoms for p in chosen[60].plans] == [4096, 2048]
    assert (chosen[0.1].axes, chosen[60].axes) == (512, 1024)
    quick, full, best = (chosen[60].seconds(p) for p in ("quick", "full", "best"))
    assert quick < full < best


def test_options_that_cannot_be_are_refused():
    with pytest.raises(RequestError, match="atoms = 100"):
        prepared(toy(), atoms=100)
    with pytest.raises(RequestError, match="patch = 50"):
        prepared(toy(), patch=50)
    for wrong in ({"fit_images": 1}, {"floor": 0.0}, {"ridge": -1.0}, {"outputs": -1}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            prepared(toy(), **wrong)
    assert methods.find("smt") is SparseManifold
    assert "needs 'patches'" in methods.fits(SparseManifold, "text")


def digits(rows: slice) -> tuple[Dataset, np.ndarray]:
    source = open_source("digits")
    modality = modalities.find("image").fit(source, source.of_kind("image")[0])
    data = Dataset.open(source, source.of_kind("image")[0], modality)
    part = np.arange(len(data))[rows]
    return data.subset(part), data.labels().values[part]


def test_digits_with_five_labels_a_class():
    """Tuned on the first 1,000 rows; fitted here on 900 of them, read out on rows that no choice has seen."""
    train, labels = digits(slice(0, 900))
    fresh, truth = digits(slice(1000, 1797))
    encoder, _ = fitted(train, atoms=None, outputs=None)
    torch.manual_seed(0)
    untrained = nets.rebuild(encoder.config()).eval()
    draw = np.random.default_rng(0)
    draws = [
        np.concatenate([draw.choice(np.flatnonzero(labels == c), 5, replace=False) for c in range(10)])
        for _ in range(10)
    ]
    scores = {}
    for name, features in {
        "pretrained": encoder, "untrained": untrained, "raw": lambda view: view["pixels"].flatten(1).float(),
    }.items():  # fmt: skip
        pool, test = (features(d.fetch(np.arange(len(d)))).numpy() for d in (train, fresh))
        models = measures.fit_draws(pool, labels, draws, classes=10, scale=measures.Scale.of(pool), key=0)
        scores[name] = np.mean([(m.outputs(test).argmax(1) == truth).mean() for m in models])
    assert scores["pretrained"] > 0.9
    assert scores["pretrained"] > max(scores["untrained"], scores["raw"]) + 0.05


def test_no_number_of_the_representation_is_far_smaller_than_the_others():
    """A linear probe standardises each: what is small would become loud."""
    data = toy(200, 18)
    method = SparseManifold(preset="quick", atoms=288, outputs=64).prepare(Facts(rows=200, modality=data.modality), 0)
    for _ in method.fit(data, None):
        pass
    encoder = method.finish().encoder.eval()
    features = encoder(data.fetch(np.arange(200)))
    spread = features.std(0)
    assert features.shape == (200, 64)
    axes = torch.linalg.eigvalsh(torch.cov(features.T)).sqrt()
    uneven = float(axes.max() / axes.min())
    assert uneven > 2
    assert float(spread.max() / spread.min()) < 1 + (uneven - 1) / 2
