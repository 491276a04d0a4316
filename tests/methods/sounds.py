"""Small sounds for the tests of single methods: bursts of noise of unequal length, a modality of 16 bands, encoders of width 16."""

from dataclasses import replace

import torch

from selftaught.core import Batch, Draw, Facts, View
from selftaught.modalities.sound import Sound
from selftaught.nets.sound import SoundConv, SoundTransformer

BANDS = 16
MODALITY = Sound(8000, 8000, 3200, BANDS, mean=(-7.0,), std=(2.5,))
ENERGIES = {"rate": 8000, "bands": BANDS, "mean": MODALITY.mean, "std": MODALITY.std}
LENGTHS = (3200, 1500, 4000, 1000)


def sounds(lengths=LENGTHS, width=None, seed=0) -> View:
    """Noise whose level and colour waver, (B, width) int16, with zeros behind the end; a row depends on its number alone."""
    width = width or max(lengths)
    wave = torch.zeros(len(lengths), width, dtype=torch.int16)
    for row, length in enumerate(lengths):
        draw = torch.Generator().manual_seed(1000 * seed + row)
        noise = torch.randn(length, generator=draw).cumsum(0) * 0.3 + torch.randn(length, generator=draw)
        noise = noise * (1.2 + torch.sin(torch.arange(length) / (150 + 40 * row)))
        wave[row, :length] = (2000 * noise / noise.std()).clamp(-32000, 32000).to(torch.int16)
    return View("sound", parts={"wave": wave, "length": torch.tensor(lengths)})


def facts(sample=None, **more) -> Facts:
    return Facts(**{"rows": 100, "modality": MODALITY, "sample": sample or sounds(), "reads": "mel", **more})


def transformer(**changes) -> SoundTransformer:
    torch.manual_seed(0)
    return SoundTransformer(**{**ENERGIES, "width": 16, "depth": 2, "heads": 2, **changes}).double()


def convolutional() -> SoundConv:
    torch.manual_seed(0)
    return SoundConv(**ENERGIES, stem=4, widths=(4, 8), blocks=(1, 1), strides=(2, 1)).double()


def made(method, encoder):
    """The method in float64, set up on a small encoder."""
    torch.manual_seed(1)
    return method.setup(encoder, facts()).double()


def batch_of(method, view, *, step=0, progress=0.5, index=None) -> Batch:
    """The method's own views of `view` in float64, as the loop makes them."""
    index = torch.arange(len(view)) if index is None else index
    specs = method.views(facts(view))
    views = [replace(s.transform(view, Draw(index, 0, step, n, progress)), role=s.role) for n, s in enumerate(specs)]
    lifted = [v.with_parts(**{k: x.double() for k, x in v.parts.items() if x.is_floating_point()}) for v in views]
    return Batch(lifted, index, 0, step, progress)
