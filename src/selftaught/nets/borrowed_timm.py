"""Vision models of timm as encoders.  timm is optional: it needs a torchvision that can be imported."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core import Encoder, ModelError, RequestError, Tokens, View
from . import bounds, files, named_weights
from .norm import synchronised
from .pixels import Normalise, tokens_of
from .pretrained import snapshot
from .tensors import TensorFile, check_room


def _timm():
    try:
        import timm
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # a torchvision of another torch fails with RuntimeError or OSError
        raise RequestError(
            f"timm cannot be imported: {str(error)[:200]}",
            "Install it with a torchvision that fits this torch (pip install timm), or take a model of transformers.",
        ) from error
    return timm


class Timm(Encoder):
    """Pixels -> (B, dim) through a model of timm without its classifier; tensors keep timm's names under `model.`.

    The representation is what timm pools before the classifier.  Tokens cannot be dropped.
    """

    kind: ClassVar[str] = "borrowed-timm"
    modality: ClassVar[str] = "image"

    architecture: str
    """timm's name of the architecture, without a tag of weights: resnet18, vit_small_patch16_224, ..."""
    channels: int = 3
    """Channels of the images."""
    image_size: int = 224
    """Side in pixels of the images that it was made for."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of the pixels in 0-1: one number, or one for each channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixels in 0-1."""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9_]{1,80}", self.architecture) or not _timm().is_model(self.architecture):
            raise RequestError(
                f"{self.architecture[:80]!r} is no architecture of timm.",
                "timm.list_models() names them, without a tag after a dot.",
            )
        model = _timm().create_model(self.architecture, pretrained=False, num_classes=0, in_chans=self.channels)
        self.model: Any = synchronised(model)
        self.normalise = Normalise(self.mean, self.std, self.channels)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"} if hasattr(self.model, "forward_intermediates") else ())

    @property
    def dim(self) -> int:
        return int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def _pixels(self, view: View) -> Tensor:
        return self.normalise(view["pixels"], next(self.model.parameters()).dtype)

    def forward(self, view: View) -> Tensor:
        return self.model(self._pixels(view))

    def on_canvas(self, size: tuple[int, int]) -> tuple[Encoder, tuple[int, int]]:
        """Itself: at the size it was made for where it cuts patches, else at any."""
        return self, (self.image_size, self.image_size) if hasattr(self.model, "patch_embed") else size

    def features(self, view: View) -> list[Tokens]:
        """timm's intermediate maps, from input to output."""
        if not self.can:
            return super().features(view)
        maps = self.model.forward_intermediates(self._pixels(view), intermediates_only=True, output_fmt="NCHW")
        return [tokens_of(m) for m in maps]


def from_timm(
    source: str, *, download: bool = False, weights: bool = True, mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None, heads: int | None = None,
) -> Encoder:  # fmt: skip
    """The encoder of a folder in timm's hub format (config.json with "architecture", model.safetensors), a state dict or a timm name.

    A name with a tag (resnet18.a1_in1k) has weights on the hub, as timm/NAME: looked up in the local cache, and over the network with
    `download`.  A name without one gives fresh parameters.  A file (.safetensors), and without timm a folder too, is read as plain
    ResNet, ViT or ConvNeXt by its names (see named_weights).  `mean` and `std` overrule the config's; `heads`: of a ViT of an unusual
    width, in a file.  Folders are untrusted: safetensors only, no links.
    """
    told = {"mean": mean, "std": std, "heads": heads}
    if source.lower().endswith((".safetensors", *files.PICKLES)):
        return named_weights.from_file(source, told, "timm")
    architecture, _, tag = source.partition(".")
    if not os.path.lexists(source) and (not tag or not weights):
        return Timm(architecture=architecture, **{k: v for k, v in told.items() if v is not None and k != "heads"})
    folder, root = (Path(source), None) if os.path.lexists(source) else snapshot(f"timm/{source}", download)
    config = files.read_json(folder, "config.json", root=root)
    name, settings = config.get("architecture"), config.get("pretrained_cfg") or {}
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise ModelError(f"{str(folder)!r} holds no model of timm.", "Its config.json would name an 'architecture'.")
    bounds.check(settings)
    options: dict[str, Any] = {
        ours: tuple(settings[ours]) for ours in ("mean", "std") if isinstance(settings.get(ours), list)
    }
    options |= {k: v for k, v in told.items() if v is not None and k != "heads"}
    size = settings.get("input_size")
    size = (
        size if isinstance(size, list) and len(size) == 3 and all(isinstance(n, int) and n > 0 for n in size) else None
    )
    if not _importable():
        return named_weights.from_file(
            str(folder), {**told, **options, "image_size": size and tuple(size[1:]), **_named(config)}, "timm", root
        )
    if size:
        options |= {"channels": size[0], "image_size": size[1]}
    with TensorFile(folder, "model.safetensors", root=root) as file, torch.random.fork_rng(devices=[]):
        try:
            encoder = Timm(architecture=name, **options)
        except (RequestError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"The config of {source!r} does not describe a model of timm: {str(error)[:300]}"
            ) from error
        _take(encoder, file)
    if not {"mean", "std"} <= set(options):
        vars(encoder)["assumed"] = ("mean", "std")
    return encoder.eval()


def _importable() -> bool:
    try:
        _timm()
    except RequestError:
        return False
    return True


def _named(config: dict) -> dict[str, Any]:
    """What timm's config.json says of a ViT that shapes do not."""
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    pooling = {"token": "class", "avg": "mean"}.get(str(arguments.get("global_pool", config.get("global_pool"))))
    return {k: v for k, v in (("heads", arguments.get("num_heads")), ("pooling", pooling)) if v is not None}


def _take(encoder: Timm, file: TensorFile) -> None:
    """Copies the weights; those of the classifier stay behind, and nothing else may be left over or missing."""
    wanted = encoder.model.state_dict()
    over = [
        n for n in file.entries if n not in wanted and not n.startswith(("fc.", "head", "classifier", "last_linear"))
    ]
    missing = [n for n in wanted if n not in file.entries]
    wrong = [n for n, t in wanted.items() if n in file.entries and file.entries[n].shape != tuple(t.shape)]
    if over or missing or wrong:
        raise ModelError(f"{file.name!r} does not fit the architecture: {', '.join((missing + wrong + over)[:3])}.")
    check_room([file])
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(file.read(name))
