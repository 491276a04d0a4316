"""Methods that know nothing of sound on sounds of unequal length: padding counts for nothing, a batch is its rows, segments are hidden whole."""

import numpy as np
import pytest
import torch

from selftaught import methods
from selftaught.core import Batch

from .sounds import LENGTHS, MODALITY, batch_of, convolutional, made, sounds, transformer

SUMMED = ("mae", "simmim", "masked-token", "next-token", "data2vec", "best-rq", "apc")
JOINT = (
    "simclr",
    "vicreg",
    "byol",
    "lejepa",
    "barlow-twins",
    "dino",
    "swav",
    "moco-v3",
    "simsiam",
    "cola",
    "same-clip",
    "byol-a",
)
SMALL = {
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}, "best-rq": {"codes": 8},
    "dino": {"prototypes": 4, "crops": 1}, "swav": {"prototypes": 4},
}  # fmt: skip


def method_of(name: str, tokens: bool):
    return made(methods.find(name)(**SMALL.get(name, {})), transformer() if tokens else convolutional())


def rows_of(batch: Batch, row: int) -> Batch:
    index = torch.tensor([row])
    return Batch([v.take(index) for v in batch.views], batch.index[index], batch.seed, batch.step, batch.progress)


@pytest.mark.parametrize("name", SUMMED)
def test_a_batch_is_the_mean_of_its_rows_each_alone_and_without_padding(name):
    """Each row by itself, no longer than it is: the losses, weighed by how many targets each has, are the batch's."""
    method = method_of(name, tokens=True).eval()
    raw = sounds()
    whole = batch_of(method, raw)
    losses, counts = [], []
    for row, length in enumerate(LENGTHS):
        index = torch.tensor([row])
        alone = raw.take(index).with_parts(wave=raw["wave"][index, :length])
        one = batch_of(method, alone, index=index)
        losses.append(method(one)["loss"].item())
        counts.append(int(method.count(one)))
    assert sum(counts) == int(method.count(whole))
    assert min(counts) > 0
    assert method(whole)["loss"].item() == pytest.approx(np.average(losses, weights=counts), abs=1e-6)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", [*JOINT, "cpc"])
def test_padding_changes_no_loss_and_no_gradient(name, tokens):
    if name == "cpc" and not tokens:
        pytest.skip("cpc needs tokens")
    found = []
    for width in (max(LENGTHS), max(LENGTHS) + 1111):
        method = method_of(name, tokens)
        torch.manual_seed(0)
        outputs = method(batch_of(method, sounds(width=width)))
        outputs["loss"].backward()
        grads = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
        found.append((outputs["loss"].detach(), grads))
    (loss, grads), (again, others) = found
    torch.testing.assert_close(again, loss, rtol=0, atol=1e-8)
    for n, grad in grads.items():
        torch.testing.assert_close(others[n], grad, rtol=1e-5, atol=1e-7, msg=n)


def test_mae_drops_segments_of_sounds_and_single_tokens_of_other_data():
    long = sounds((8000, 8000, 8000))
    gaps = {}
    for span in (0, 1):
        method = made(methods.find("mae")(span=span, **SMALL["mae"]), transformer())
        batch = batch_of(method, long)
        dropped = method._dropped(batch, method.encoder.tokenize(batch.views[0]))[2]
        assert (dropped.sum(1) == 19).all()  # three quarters of 25
        kept = ~dropped
        gaps[span] = int((kept[:, 1:] & ~kept[:, :-1]).sum() + kept[:, 0].sum())  # runs of what is left
    assert MODALITY.span == 3
    assert gaps[0] < gaps[1]
    assert gaps[0] <= 3 * 3  # six tokens in two runs, one of them perhaps cut


def test_a_hidden_segment_is_as_hidden_as_single_tokens():
    """What stands in dropped segments reaches nothing but the target."""
    method = method_of("mae", tokens=True)
    batch = batch_of(method, sounds())
    dropped = method._dropped(batch, method.encoder.tokenize(batch.views[0]))[2]
    frame = dropped.repeat_interleave(4, 1)[:, : batch.views[0]["mel"].shape[1], None]
    changed = batch.views[0].with_parts(mel=batch.views[0]["mel"] + torch.rand(4, 1, 1) * frame)
    other = Batch([changed], batch.index, batch.seed, batch.step, batch.progress)
    assert torch.equal(method(batch)["features"], method(other)["features"])
