"""Autoencoders, VAE, inpainting, SimMIM and colourisation: objectives against loops, and what the encoder may not see."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from selftaught.core import Facts, RequestError, View
from selftaught.methods.autoencoder import Autoencoder
from selftaught.methods.colorization import Colorization
from selftaught.methods.denoising_autoencoder import DenoisingAutoencoder
from selftaught.methods.inpainting import Inpainting
from selftaught.methods.simmim import SimMIM
from selftaught.methods.vae import VAE, divergence
from selftaught.modalities.image import Image
from selftaught.nets.painter import Painter
from selftaught.views.lab import bins, soft_bins

from .small import Pictures, batch_of, convolutional, made, pictures, tokens


@dataclass(frozen=True)
class Paintable(Pictures):
    """8 x 8 pictures through the functions of the real modality."""

    side: ClassVar[int] = 8
    channels: ClassVar[int] = 3
    real: ClassVar[Image] = Image(8, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))

    def painted(self, view):
        return self.real.painted(view)

    def unpainted(self, painted):
        return self.real.unpainted(painted)

    def grey(self, view):
        return self.real.grey(view)

    def colours(self, view, grid):
        return self.real.colours(view, grid)


class Watching(torch.nn.Module):
    """Hands on what an encoder is shown."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.seen = encoder, []

    def __getattr__(self, name):
        return (
            super().__getattr__(name)
            if name in ("encoder", "_modules", "_parameters", "_buffers")
            else getattr(self.encoder, name)
        )

    def forward(self, view):
        self.seen.append(view)
        return self.encoder(view)


def ready(method, rows=6):
    method = made(method, convolutional(), Paintable())
    method.encoder.eval()
    return method, batch_of(method, pictures(rows), Paintable())


def squared(painted, wanted, where=None) -> float:
    """Mean over rows of the mean squared error over the places of a row."""
    rows = []
    for b in range(len(wanted)):
        off = [
            (float(p) - float(w)) ** 2
            for p, w, k in zip(painted[b].flatten(), wanted[b].flatten(), _all(where, b, wanted), strict=True)
            if k
        ]
        rows.append(sum(off) / len(off))
    return sum(rows) / len(rows)


def _all(where, b, wanted):
    return [True] * wanted[b].numel() if where is None else where[b].expand_as(wanted[b]).flatten().tolist()


def test_autoencoder_paints_its_input():
    method, batch = ready(Autoencoder(width=16))
    wanted = Paintable().painted(batch.views[0])
    with torch.no_grad():
        painted = method.painter(method.encoder(batch.views[0]))
    out = method(batch)
    assert out["loss"].item() == pytest.approx(squared(painted, wanted), abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(float(np.var(wanted.flatten(1).numpy(), axis=0).mean()), abs=1e-9)


def test_denoising_autoencoder_sees_a_quarter_less_and_paints_it_all():
    method, batch = ready(DenoisingAutoencoder(width=16, noise=0.25), rows=40)
    wanted = Paintable().painted(batch.views[0])
    method.encoder = Watching(method.encoder)
    out = method(batch)
    (shown,) = method.encoder.seen
    gone = (Paintable().painted(shown).abs() < 1e-9).all(1, keepdim=True)
    assert gone.float().mean() == pytest.approx(0.25, abs=0.03)
    kept = ~gone.expand_as(wanted)
    torch.testing.assert_close(Paintable().painted(shown)[kept], wanted[kept])
    with torch.no_grad():
        painted = method.painter(method.encoder.encoder(shown))
    assert out["loss"].item() == pytest.approx(squared(painted, wanted), abs=1e-9)
    with pytest.raises(RequestError, match="noise = 0"):
        ready(DenoisingAutoencoder(noise=0.0))


def test_divergence_is_that_of_torch():
    middle, spread = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    wanted = kl_divergence(Normal(middle, (spread / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(middle, spread), wanted)


def test_vae_is_half_the_squared_error_and_the_divergence_by_pixel_value():
    method, batch = ready(VAE(code=4, beta=3.0, width=16))
    wanted, noise = Paintable().painted(batch.views[0]), batch.draw().normal("code", 4)
    with torch.no_grad():
        features = method.encoder(batch.views[0])
        middle, spread = method.middle(features), method.spread(features)
        painted = method.painter(middle + noise * (spread / 2).exp())
        nats = kl_divergence(Normal(middle, (spread / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    out = method(batch)
    assert out["loss"].item() == pytest.approx(squared(painted, wanted) / 2 + 3 * float(nats) / 192, abs=1e-7)
    assert float(out["kl"]) == pytest.approx(float(nats), abs=1e-6)


def test_inpainting_hides_a_square_and_is_judged_on_it_alone():
    method, batch = ready(Inpainting(share=0.25, width=16))
    wanted = Paintable().painted(batch.views[0])
    method.encoder = Watching(method.encoder)
    out = method(batch)
    (shown,) = method.encoder.seen
    hole = (Paintable().painted(shown).abs() < 1e-9).all(1, keepdim=True)
    for row in hole[:, 0]:
        down, across = row.any(1).nonzero().flatten().tolist(), row.any(0).nonzero().flatten().tolist()
        assert len(down) == len(across) == 4
        assert row.sum() == 16
        assert down == list(range(down[0], down[0] + 4))
        assert across == list(range(across[0], across[0] + 4))
    with torch.no_grad():
        painted = method.painter(method.encoder.encoder(shown))
    assert out["loss"].item() == pytest.approx(squared(painted, wanted, hole), abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(squared(torch.zeros_like(wanted), wanted, hole), abs=1e-9)


def test_simmim_is_the_absolute_error_at_masked_tokens():
    method = made(SimMIM(ratio=0.6), tokens())
    batch = batch_of(method, pictures())
    target, chosen, _ = method._target(batch)
    assert (chosen.sum(1) == round(0.6 * 16)).all()
    with torch.no_grad():
        read = method.encoder.trunk(method.encoder.tokenize(batch.views[0].with_parts(masked=chosen)))
    off = [
        np.abs(method.head(read.patches[b, n]).detach().numpy() - target.values[b, n].numpy()).mean()
        for b, n in chosen.nonzero().tolist()
    ]
    assert method(batch)["loss"].item() == pytest.approx(np.mean(off), abs=1e-9)
    assert int(method.count(batch)) == 6 * 10


def test_simmim_masked_pixels_change_nothing_that_is_read():
    method = made(SimMIM(), tokens())
    batch = batch_of(method, pictures())
    _, chosen, grid = method._target(batch)
    masked = chosen.view(-1, 1, *grid).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = batch.views[0].with_parts(pixels=batch.views[0]["pixels"].masked_fill(masked, 0.77))
    read = [
        method.encoder.trunk(method.encoder.tokenize(v.with_parts(masked=chosen))).values
        for v in (batch.views[0], other)
    ]
    torch.testing.assert_close(*read)


def colour_by_loops(method, batch, counts: np.ndarray) -> tuple[float, float]:
    """Loss and blind guess."""
    view, centres = batch.views[0], bins()
    stages = method.encoder.features(Paintable().grey(view))
    (h, w), total, blind = stages[0].grid, 0.0, 0.0
    maps = [s.values.detach().numpy().reshape(len(batch), *s.grid, -1) for s in stages]
    ab = Paintable().colours(view, (h, w)).reshape(len(batch), h, w, 2)
    frequency = (counts + 1) / (counts + 1).sum()
    weight = 1 / (0.5 * frequency + 0.5 / len(counts))
    weight /= (frequency * weight).sum()
    for b in range(len(batch)):
        for y in range(h):
            for x in range(w):
                column = [m[b, y * m.shape[1] // h, x * m.shape[2] // w] for m in maps]
                logits = method.head(torch.from_numpy(np.concatenate(column))[None]).detach().numpy()[0]
                logs = logits - np.log(np.exp(logits).sum())
                index, share = (t[0].numpy() for t in soft_bins(ab[b, y, x][None], centres))
                total -= weight[index[0]] * (share * logs[index]).sum()
                blind -= weight[index[0]] * (share * np.log(frequency[index])).sum()
    return total / (len(batch) * h * w), blind / (len(batch) * h * w)


def test_colorization_is_the_balanced_cross_entropy_of_soft_bins():
    method, batch = ready(Colorization(hidden=12), rows=3)
    counts = np.random.default_rng(0).integers(0, 50, len(bins())).astype(float)
    method.get_buffer("counts").copy_(torch.from_numpy(counts))
    loss, blind = colour_by_loops(method, batch, counts)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(loss, rel=1e-6)
    assert float(out["baseline"]) == pytest.approx(blind, rel=1e-6)
    before = method.get_buffer("counts").clone()
    method.after_step(0.5, out)
    assert float((method.get_buffer("counts") - before).sum()) == pytest.approx(
        3 * math.prod(method.encoder.features(batch.views[0])[0].grid)
    )


def test_colorization_never_shows_colour_and_refuses_grey_pictures():
    view = pictures(4)
    grey = Paintable().grey(view)["pixels"]
    assert torch.equal(grey[:, 0], grey[:, 1])
    turned = view.with_parts(pixels=view["pixels"].flip(1))
    assert not torch.allclose(Paintable().colours(view, (4, 4)), Paintable().colours(turned, (4, 4)))
    one = Image(8, 1, (0.5,), (0.2,))
    with pytest.raises(RequestError, match="no colour"):
        Colorization().setup(convolutional(), Facts(rows=4, modality=one, sample=view))


@pytest.mark.parametrize("side", [4, 8, 12, 28, 32])
def test_painter_paints_any_side_row_by_row(side):
    torch.manual_seed(0)
    painter = Painter(6, 3, side, width=16)
    x = torch.randn(5, 6)
    painted = painter(x)
    assert painted.shape == (5, 3, side, side)
    torch.testing.assert_close(painter(x[2:3]), painted[2:3])
    again = Painter(**painter.config()["options"])
    again.load_state_dict(painter.state_dict())
    assert torch.equal(again(x), painted)


def test_what_is_painted_can_be_shown_again():
    view = View("image", parts={"pixels": torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)})
    back = Paintable().unpainted(Paintable().painted(view))["pixels"]
    torch.testing.assert_close(back, view["pixels"] / 255, rtol=0, atol=1e-6)
