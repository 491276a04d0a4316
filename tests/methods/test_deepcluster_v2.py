"""DeepCluster: its objective, what refreshing forms, and that a run refreshes each epoch and resumes exactly."""

import math

import numpy as np
import pytest
import torch

from selftaught import train
from selftaught.core import Batch, View
from selftaught.methods.deepcluster_v2 import DeepClusterV2
from selftaught.train import checkpoint

from .small import batch_of, made, pictures, tokens


def test_loss_is_the_cross_entropy_of_every_view_with_its_rows_cluster():
    method = made(DeepClusterV2(clusters=5, crops=1, hidden=12, width=6, norm="layer"), tokens())
    index = torch.tensor([7, 2, 40, 3, 99, 12])
    batch = batch_of(method, pictures(), index=index)
    features = torch.cat([method.encoder(View.cat(batch.views[:2])), method.encoder(batch.views[2])])
    z = method.projector(features).detach().numpy()
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).reshape(3, 6, 6)
    centroids, total = method.get_buffer("centroids").numpy(), 0.0
    for view in z:
        for row, own in zip(view, index % 5, strict=True):  # before the first pass: the row's id modulo 5
            scores = centroids @ row / 0.1
            total -= scores[own] - math.log(np.exp(scores).sum())
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 18, abs=1e-9)
    assert float(out["code_perplexity"]) == pytest.approx(5)


def test_refreshing_gives_every_row_the_closest_centroid_by_id():
    method = made(DeepClusterV2(clusters=5, crops=1, hidden=12, width=6, norm="layer"), tokens())
    view, ids = pictures(100), torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:100]
    parts = torch.arange(100).split(32)
    with torch.no_grad():
        method.refresh(Batch([view.take(p)], ids[p], 0, 0, 0.0) for p in parts)
        z = torch.nn.functional.normalize(method.projector(method.encoder(view)), dim=1)
    closest = (z @ method.get_buffer("centroids").T).argmax(1)
    found = method.get_buffer("assigned")[torch.searchsorted(method.get_buffer("ids"), ids)]
    assert torch.equal(found, closest)
    assert len(closest.unique()) > 1


def test_a_run_refreshes_each_epoch_and_goes_on_in_the_same_bits(tmp_path, monkeypatch):
    """20 of 25 rows, 10 a step: an epoch is two steps; ids go beyond the number of rows, because some are held out."""
    data = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 3), dtype=np.uint8)
    small = {
        "options": {"clusters": 4, "crops": 1, "hidden": 8, "width": 4}, "recipe": {"batch": 10}, "holdout": 0.2,
        "encoder_options": {"widths": (8,), "blocks": (1,), "strides": (2,), "stem": 8},
    }  # fmt: skip
    honest, seen = DeepClusterV2.refresh, []

    def refresh(self, sweep):
        batches = list(sweep)
        seen.append((batches[0].step, torch.cat([b.index for b in batches]).tolist(), self.training))
        honest(self, batches)

    monkeypatch.setattr(DeepClusterV2, "refresh", refresh)
    whole = train.pretrain(data, method="deepcluster-v2", steps=5, out=tmp_path / "whole", **small)
    assert [step for step, _, _ in seen] == [0, 2, 4]
    assert all(len(set(ids)) == 20 and not training for _, ids, training in seen)
    for stop_at in (2, 3):
        calls = iter(range(100))
        out = tmp_path / f"cut{stop_at}"
        train.pretrain(
            data,
            method="deepcluster-v2",
            steps=5,
            out=out,
            stop=lambda calls=calls, at=stop_at: next(calls) >= at - 1,
            **small,
        )
        train.resume(out, data=data)
        (_, ours), (_, theirs) = (checkpoint.newest(p / "checkpoints") for p in (out, tmp_path / "whole"))
        assert all(torch.equal(v, theirs["method"][k]) for k, v in ours["method"].items())
    assert whole.result["finished"]
