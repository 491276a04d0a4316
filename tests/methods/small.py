"""Small pictures and texts for the tests of single methods: a modality of a few lines each, and encoders of width 16."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from selftaught.core import Batch, Draw, Facts, Target, View
from selftaught.nets.small import SmallResNet
from selftaught.nets.text import TextTransformer
from selftaught.nets.vit import ViT


@dataclass(frozen=True)
class Pictures:
    """8 x 8 pictures in float64; an augmentation scales them, a small crop halves the side, patches are 2 x 2."""

    name: ClassVar[str] = "pictures"
    offers: ClassVar[frozenset] = frozenset({"augment", "local", "turn", "target"})
    patch: int = 2

    def _scaled(self, view, draw):
        return view.with_parts(pixels=view["pixels"] * (0.5 + draw.uniform("scale", 1, 1, 1)).double())

    def augment(self, facts):
        return self._scaled

    def local(self, facts):
        return lambda view, draw: view.with_parts(pixels=self._scaled(view, draw)["pixels"][:, :, 2:6, 2:6])

    def mild(self, facts):
        return lambda view, draw: view

    def turn(self, view, quarters):
        return view.with_parts(pixels=torch.rot90(view["pixels"], quarters, (2, 3)))

    def target(self, view, grid):
        x, (h, w) = view["pixels"], grid
        ph, pw = x.shape[2] // h, x.shape[3] // w
        values = x.unfold(2, ph, ph).unfold(3, pw, pw).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        return Target("value", values, torch.ones(values.shape[:2], dtype=torch.bool), width=values.shape[-1])

    def corrupt(self, view, chosen, grid, draw):
        return view.with_parts(masked=chosen)


@dataclass(frozen=True)
class Texts:
    """Token ids: 0 padding, 1 begin, 2 end, 3 mask, words from 4 on."""

    name: ClassVar[str] = "texts"
    offers: ClassVar[frozenset] = frozenset({"augment", "target"})
    vocabulary: int = 11

    def mild(self, facts):
        return lambda view, draw: view

    augment = mild

    def target(self, view, grid):
        return Target("class", view["ids"], view["valid"], classes=self.vocabulary)

    def corrupt(self, view, chosen, grid, draw):
        return view.with_parts(ids=view["ids"].masked_fill(chosen, 3))


def pictures(rows=6, seed=0) -> View:
    return View(
        "image",
        parts={"pixels": torch.rand(rows, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))},
    )


def texts(lengths=(7, 4, 9, 3), width=None, seed=0) -> View:
    """Rows of these lengths, begin and end marks included, padded to `width`."""
    width = width or max(lengths)
    ids = torch.randint(4, 11, (len(lengths), 64), generator=torch.Generator().manual_seed(seed))[:, :width]
    valid = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = ids.masked_fill(~valid, 0)
    ids[:, 0] = 1
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 2
    return View("text", parts={"ids": ids, "valid": valid})


def facts(modality=None, sample=None) -> Facts:
    modality = modality or Pictures()
    sample = sample or (texts(width=16) if isinstance(modality, Texts) else pictures())
    return Facts(rows=100, modality=modality, sample=sample)


def convolutional():
    torch.manual_seed(0)
    return SmallResNet(widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8, stride=1, patch=3).double()


def tokens(**changes):
    torch.manual_seed(0)
    options = {"image_size": 8, "patch": 2, "width": 16, "depth": 1, "heads": 2, "eps": 1e-6, **changes}
    return ViT(**options).double()


def words(**changes):
    torch.manual_seed(0)
    return TextTransformer(**{"vocabulary": 11, "context": 16, "width": 16, "depth": 2, "heads": 2, **changes}).double()


def made(method, encoder, modality=None):
    """The method in float64, set up on a small encoder."""
    torch.manual_seed(1)
    return method.setup(encoder, facts(modality)).double()


def batch_of(method, view, modality=None, *, seed=0, step=0, progress=0.5, index=None) -> Batch:
    """The method's own views of `view`, as the loop makes them."""
    index = torch.arange(len(view)) if index is None else index
    specs = method.views(facts(modality, view))
    views = [replace(s.transform(view, Draw(index, seed, step, n, progress)), role=s.role) for n, s in enumerate(specs)]
    return Batch(views, index, seed, step, progress)


def gradients(method, batch):
    """{name: gradient} of the loss, and the loss."""
    method.zero_grad()
    loss = method(batch)["loss"]
    loss.backward()
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}, loss.detach()
