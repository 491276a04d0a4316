"""The bank of filters: what a clip becomes against loops, independence of padding, what training and a folder need of it."""

import numpy as np
import pytest
import torch

from selftaught.core import View
from selftaught.nets import build, rebuild
from selftaught.nets.sound_bank import SoundBank, by_stretch

SMALL = {
    "rate": 8000,
    "bands": 16,
    "widths": (6, 5),
    "kernels": (5, 3),
    "strides": (1, 2),
    "mean": (-7.0,),
    "std": (2.5,),
}


def clips(lengths=(2000, 700, 90, 1500), width=None) -> View:
    wave = torch.zeros(len(lengths), width or max(lengths))
    for row, length in enumerate(lengths):
        wave[row, :length] = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(row))
    return View("sound", parts={"wave": wave, "length": torch.tensor(lengths)})


def made(**changes) -> SoundBank:
    torch.manual_seed(0)
    return SoundBank(**{**SMALL, **changes})


def test_a_clip_is_the_means_of_its_stretches_and_its_maxima():
    encoder = made().double().eval()
    view = clips()
    found = encoder(view).detach().numpy()
    assert found.shape == (4, encoder.dim) == (4, 11 * 4)
    heard, frames = encoder.hearing(view)
    for row, count in enumerate(frames.tolist()):
        x, wanted = heard[row, :count].numpy(), []
        for conv, norm, stride in zip(encoder.convs, encoder.norms, encoder.strides, strict=True):
            weight = conv.weight.detach().numpy()
            half, new = weight.shape[2] // 2, []
            for t in range(0, len(x), stride):
                total = np.zeros(len(weight))
                for k in range(weight.shape[2]):
                    if 0 <= t + k - half < len(x):
                        total += weight[:, :, k] @ x[t + k - half]
                new.append(np.maximum(total / np.sqrt(1 + norm.eps), 0))
            x = np.array(new)
            for piece in range(3):
                inside = [t for t in range(len(x)) if t * 3 // len(x) == piece]
                wanted.append(x[inside].mean(0) if inside else np.zeros(x.shape[1]))
            wanted.append(x.max(0))
        assert np.allclose(found[row], np.concatenate(wanted), atol=1e-9)


@pytest.mark.parametrize("training", [False, True])
def test_padding_and_the_rows_beside_it_change_nothing_but_statistics(training):
    encoder = made().double().train(training)
    torch.testing.assert_close(encoder(clips(width=3333)), encoder(clips()), rtol=0, atol=1e-10)
    if not training:
        torch.testing.assert_close(encoder(clips((2000,))), encoder(clips())[:1], rtol=0, atol=1e-10)


def test_stages_are_tokens_of_the_layers_and_every_layer_learns():
    encoder = made()
    first, second = encoder.features(clips())
    assert (first.grid, second.grid) == ((25,), (13,))
    assert first.valid.sum(1).tolist() == [25, 9, 2, 19]
    assert second.valid.sum(1).tolist() == [13, 5, 1, 10]
    encoder(clips()).sum().backward()
    assert all(p.grad.abs().max() > 0 for layer in encoder.layers() for p in layer)
    assert len(encoder.layers()) == 2
    assert rebuild(encoder.config()).config() == encoder.config()


def test_stretches_of_few_steps():
    x = torch.arange(8.0).view(1, 1, 8).expand(2, 1, 8)
    keep = torch.arange(8) < torch.tensor([[7], [2]])
    assert by_stretch(x, keep, 3)[..., 0].tolist() == [[1.0, 3.5, 5.5], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("wrong", [{"kernels": (4, 3)}, {"widths": (6,)}, {"pieces": 0}])
def test_what_describes_no_bank_is_refused(wrong):
    with pytest.raises(ValueError, match="kernels"):
        build("sound-bank", **{**SMALL, **wrong})
