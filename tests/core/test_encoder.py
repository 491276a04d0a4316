"""Encoder: capabilities, siblings, towers, clean features and joint passes."""

import pytest
import torch
import torch.nn as nn

from selftaught.core import Encoder, Paired, View, clean, encode


class Linear(Encoder):
    """Flattens pixels; keeps the row counts of its calls."""

    width: int = 3
    kind = "linear"
    modality = "image"

    def __post_init__(self):
        self.layer = nn.LazyLinear(self.width)
        self.norm = nn.BatchNorm1d(self.width)
        self.calls = []

    @property
    def dim(self):
        return self.width

    def forward(self, view):
        self.calls.append(len(view))
        return self.norm(self.layer(view["pixels"].float().mean((2, 3))))


def views(*sizes):
    return [View("image", parts={"pixels": torch.rand(4, 3, s, s)}) for s in sizes]


def test_config_rebuilds_and_sibling_changes():
    encoder = Linear(width=5)
    assert encoder.config() == {"kind": "linear", "options": {"width": 5}}
    assert encoder.sibling(width=2).dim == 2
    assert encoder.can == frozenset()


def test_encode_joins_neighbours_of_one_shape():
    encoder = Linear().eval()
    batch = views(8, 8, 4, 4, 4, 8)
    joined = encode(encoder, batch)
    assert encoder.calls == [8, 12, 4]
    for feature, view in zip(joined, batch, strict=True):
        torch.testing.assert_close(feature, encoder(view))


def test_clean_leaves_no_trace():
    encoder = Linear()
    encoder(views(4)[0])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    features = clean(encoder, views(4)[0])
    assert not features.requires_grad
    assert encoder.training
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_paired_dispatches_on_the_views_modality():
    text = Linear(width=3)
    paired = Paired().join(image=Linear(width=3), text=text)
    view = views(4)[0]
    assert paired(view).shape == (4, 3)
    assert text.calls == []
    with pytest.raises(ValueError, match="widths differ"):
        Paired().join(image=Linear(width=3), text=Linear(width=4))


def test_layers_hold_every_parameter_once():
    encoder = Linear()
    encoder(views(4)[0])
    encoder.token = nn.Parameter(torch.zeros(3))
    listed = [p for group in encoder.layers() for p in group]
    assert {id(p) for p in listed} == {id(p) for p in encoder.parameters()}
    assert len(listed) == len({id(p) for p in listed})
    assert listed[0] is encoder.token
