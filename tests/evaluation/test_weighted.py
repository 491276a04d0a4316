"""Shares of stages: the stage that holds what is asked for gets most, for sounds, series and pictures alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught import nets
from selftaught.core import Draw, Encoder, Kept, Tokens
from selftaught.data import Dataset
from selftaught.evaluation import finetune, load_model, predict
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.nets.weighted import WeightedStages


class Telling(Encoder):
    """Stages of noise but for one, which tells the mean of a series."""

    kind = "telling"
    modality = "series"
    place: int = 1

    def __post_init__(self):
        self.scale = torch.nn.Parameter(torch.ones(()))

    @property
    def can(self):
        return frozenset({"stages"})

    @property
    def dim(self):
        return 6

    def features(self, view):
        x = view["values"].mean((1, 2))[:, None]
        noise = torch.sin(1000 * x * torch.arange(1, 7))
        told = torch.cat([x.sign(), -x.sign(), 0.1 * noise[:, :4]], 1)
        return [Tokens((told if k == self.place else noise)[:, None] * self.scale, grid=(1,)) for k in range(3)]

    def forward(self, view):
        return self.features(view)[-1].mean()


def rows(count: int = 80):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, count)
    level = (2 * label - 1) * rng.uniform(0.3, 1.0, count)
    return [np.full((16, 1), v, np.float32) + 0.001 * rng.normal(size=(16, 1)).astype(np.float32) for v in level], label


@pytest.mark.parametrize("place", [0, 1])
def test_the_stage_that_tells_gets_the_largest_share(place):
    held, label = rows()
    data = Dataset.from_arrays(held, find("series")(context=16, patch=4), labels=label)
    found = finetune(Telling(place=place), data, labels="label", mode="head", pool="weighted")
    shares = found.result["stages"]
    assert int(np.argmax(shares)) == place
    assert shares[place] > 0.5
    assert found.result["test"]["accuracy"] > 0.95
    assert finetune(Telling(place=place), data, labels="label", mode="head").result["test"]["accuracy"] < 0.8


def test_a_model_of_pictures_with_stages_of_several_widths_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    pictures = np.where(label[:, None, None, None] == 1, 200, 60) + rng.integers(0, 40, (60, 16, 16, 3))
    data = Dataset.from_arrays(pictures.astype(np.uint8), find("image")(side=16), labels=label)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build("resnet-small", stem=8, widths=(8, 16), blocks=(1, 1), strides=(1, 2))
    store.save(tmp_path / "run", Kept(encoder), fill=data.modality.save)
    found = finetune(tmp_path / "run", data, labels="label", mode="head", pool="weighted", out=tmp_path / "model")
    assert isinstance(found.model.encoder, WeightedStages)
    assert found.model.encoder.dim == sum(found.model.encoder.widths)
    assert sum(found.result["stages"]) == pytest.approx(1, abs=1e-5)
    again = load_model(tmp_path / "model")
    assert predict(found, data).equals(predict(again, data))


def test_a_mixture_is_trained_with_the_rest(tmp_path):
    held, label = rows(60)
    data = Dataset.from_arrays(held, find("series")(context=16, patch=4), labels=label)
    encoder = nets.build("series-transformer", patch=4, width=16, depth=3, heads=2)
    found = finetune(encoder, data, labels="label", mode="full", pool="weighted")
    assert len(found.result["stages"]) == 3
    assert max(abs(s - 1 / 3) for s in found.result["stages"]) > 1e-3
    with torch.no_grad():
        view = data.modality.plain()(data.fetch([0, 1]), Draw(torch.arange(2)))  # fmt: skip
        means = found.model.encoder.means(view)
        weights = F.softmax(10 * found.model.encoder.mixture, 0)
    assert torch.allclose(found.model.encoder(view), sum(w * m for w, m in zip(weights, means)), atol=1e-6)
