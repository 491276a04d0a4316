"""SimCLR v2: the objective of its deeper projection, its memory, and what it hands over."""

import math

import numpy as np
import pytest
import torch

from selftaught import losses
from selftaught.core import RequestError, View
from selftaught.methods.simclr_v2 import SimCLRv2

from ..losses.test_losses import nt_xent
from .small import batch_of, convolutional, made, pictures, tokens


def projected(method, batch):
    """(B, 2, P) embeddings of both views."""
    z = method.projector(method.first(method.encoder(View.cat(batch.views))))
    return z.detach().unflatten(0, (2, -1)).transpose(0, 1)


def test_it_is_nt_xent_of_its_projections():
    method = made(SimCLRv2(hidden=12, width=5), convolutional())
    batch = batch_of(method, pictures())
    wanted, found = nt_xent(projected(method, batch).numpy(), 0.1)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(found)


def test_memory_holds_what_a_slow_copy_says_of_the_first_view():
    method = made(SimCLRv2(hidden=12, width=5, memory=9, norm="layer"), tokens())
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))
    batch = batch_of(method, pictures())
    before, keys = method.old.rows.clone(), method.teacher(batch.views[0])
    wanted, _ = losses.info_nce(projected(method, batch), temperature=0.1, old=before)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(float(wanted), abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(math.log(1 + 2 * 5 + 9))
    method.after_step(0.5, out)
    unit = keys / keys.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(method.old.rows.numpy(), torch.cat([unit, before[6:]]).numpy(), atol=1e-12)


@pytest.mark.parametrize("memory", [0, 9])
def test_coupling_its_embeddings_is_its_loss(memory):
    method = made(SimCLRv2(memory=memory), tokens())
    batch = batch_of(method, pictures())
    whole, replayed = method(batch), method.couple(method.embed(batch))
    torch.testing.assert_close(replayed["loss"], whole["loss"], rtol=0, atol=1e-12)
    assert ("keys" in replayed) == bool(memory)


def test_the_first_layer_goes_with_the_encoder_unless_it_is_not_wanted():
    method = made(SimCLRv2(hidden=12, width=5, kept="first"), convolutional()).eval()
    kept = method.keep()
    torch.testing.assert_close(kept.encoder(pictures()), method.first(method.encoder(pictures())))
    assert set(kept.parts) == {"projector"}
    alone = made(SimCLRv2(kept="none"), convolutional()).keep()
    assert set(alone.parts) == {"first", "projector"}
    assert alone.encoder.kind == "resnet-small"
    with pytest.raises(RequestError, match="memory = -1"):
        made(SimCLRv2(memory=-1), convolutional())
