"""Vision models of transformers as encoders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, ModelError, RequestError, Tokens, View
from .architecture import Outline, Plan, make, network_class, network_config, outline, plan, portable
from .norm import synchronised
from .pixels import Normalise, tokens_of
from .split import Split, probe
from .trunk import replace_masked


class Borrowed(Encoder):
    """Pixels -> (B, dim) through a vision model of transformers; its tensors keep the model's names under `model.`.

    The representation: the model's own pooled output where it has one without a head to train, else the class token, else the
    mean over the map (`pooling` overrules).  `can` holds "tokens" and "mask" only where a probe on a two-layer copy of
    the architecture shows that tokens may be dropped (see split.probe): absolute positions yes, relative bias and rotary
    positions no.  Batch norms are those of nets.norm.
    """

    kind: ClassVar[str] = "borrowed"
    modality: ClassVar[str] = "image"

    architecture: str
    """The network's settings as JSON, {"model_type": ..., ...}: judged anew whenever it is built."""
    image_size: int | None = None
    """Side in pixels of the images that it is used for; None: what its config says, else 224."""
    pooling: Literal["auto", "class", "mean"] = "auto"
    """What represents an image: the model's own choice, the first token, or the mean over the map."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of the pixels in 0-1: one number, or one for each channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixels in 0-1."""

    def __post_init__(self):
        self.model: Any = synchronised(make(self.architecture))
        self.normalise = Normalise(self.mean, self.std, self.plan.channels)
        split = Split.of(self.model)
        if split is not None and split.mask_token is None:
            self.mask_token = nn.Parameter(0.02 * torch.randn(split.width))

    @property
    def plan(self) -> Plan:
        return plan(self.architecture)

    @property
    def outline(self) -> Outline:
        return outline(self.architecture, self.model)

    @property
    def can(self) -> frozenset[str]:
        extra = {"stages"} if self.outline.stages > 1 else set()
        return frozenset(extra if probe(self.architecture) else extra | {"tokens", "mask"})

    @property
    def dim(self) -> int:
        return self.outline.pooled if self.pooling == "auto" else self.outline.width

    @property
    def split(self) -> Split:
        """The parts of a model whose tokens may be dropped; RequestError with the probe's reason where they may not."""
        reason = probe(self.architecture)
        if reason:
            raise RequestError(
                f"Tokens of {self.model.config.model_type!r} cannot be dropped or masked: {reason}.",
                "Take a ViT, DeiT, DINOv2 or I-JEPA, or a method that does not need 'mask'.",
            )
        return Split.of(self.model)  # type: ignore[return-value]

    def _mask_token(self) -> Tensor | None:
        if hasattr(self, "mask_token"):
            return self.mask_token
        split = Split.of(self.model)
        return None if split is None else split.mask_token.flatten()  # type: ignore[union-attr]

    def outputs(self, view: View, **options: bool):
        """What the model itself gives for a view; `options` are its own (output_hidden_states, output_attentions)."""
        pixels = self.normalise(view["pixels"], next(self.model.parameters()).dtype)
        if self.plan.interpolates and tuple(pixels.shape[2:]) != self.plan.size:
            options["interpolate_pos_encoding"] = True
        return self.model(pixel_values=pixels, **options)

    def forward(self, view: View) -> Tensor:
        if "masked" in view.parts:
            return self.pool(self.trunk(self.tokenize(view)))
        out = self.outputs(view)
        own = getattr(out, "pooler_output", None)
        if self.pooling == "auto" and own is not None:
            pooled = own.flatten(1)
        else:
            pooled = self.pool(self._tokens(out.last_hidden_state, view))
        token = self._mask_token()
        return pooled if token is None else pooled + 0 * token.sum()  # every parameter has a gradient under DDP

    def features(self, view: View) -> list[Tokens]:
        """Every stage that transformers calls a hidden state; the last one as the model gives it out."""
        out = self.outputs(view, output_hidden_states=True)
        stages = list(out.hidden_states or ())[1:]
        last = out.last_hidden_state
        if stages and stages[-1].shape == last.shape:
            stages.pop()
        return [self._tokens(x, view) for x in [*stages, last]]

    def _tokens(self, x: Tensor, view: View) -> Tokens:
        """A map, or a sequence with its grid: the patches of the configured size, else the largest square; the rest is prefix."""
        if x.ndim == 4:
            return tokens_of(x)
        count, (high, wide), patch = x.shape[1], view["pixels"].shape[2:], self.plan.patch
        grid = (high // patch, wide // patch) if patch else (int(count**0.5),) * 2
        if grid[0] * grid[1] > count or not patch:
            grid = (int(count**0.5),) * 2
        return Tokens(x, grid=grid, prefix=count - grid[0] * grid[1])

    def on_canvas(self, size: tuple[int, int]) -> tuple[Encoder, tuple[int, int]]:
        """Itself: at sides rounded up to patches where the model takes other sizes, else at its own."""
        patch = self.plan.patch
        if patch and not self.plan.interpolates:
            return self, self.plan.size
        step = patch or 1
        return self, (-(-size[0] // step) * step, -(-size[1] // step) * step)

    def tokenize(self, view: View) -> Tokens:
        split = self.split
        patches = split.patches(self.normalise(view["pixels"], next(self.model.parameters()).dtype))
        patches = replace_masked(patches, self._mask_token(), view.parts.get("masked"))  # type: ignore[arg-type]
        front = split.front().to(patches.dtype).expand(patches.shape[0], -1, -1)
        grid = tuple(n // p for n, p in zip(view["pixels"].shape[2:], split.patch))
        return Tokens(torch.cat([front, patches], 1), grid=grid, prefix=front.shape[1])

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        if causal or tokens.segment is not None:
            raise RequestError(
                "A borrowed encoder looks both ways and at one picture at a time.", "It has no causal mode."
            )
        return self.split.run(tokens)

    def pool(self, tokens: Tokens) -> Tensor:
        first = self.pooling == "class" or (self.pooling == "auto" and tokens.prefix > 0)
        return tokens.values[:, 0] if first else tokens.mean()

    def layers(self) -> list[list[nn.Parameter]]:
        loose = list(self.parameters(recurse=False))
        return [g for g in [loose, *groups_of(self.model)] if g]

    def portable_state(self) -> dict[str, Tensor]:
        """The tensors under the names that transformers writes to files: they outlast its renamings."""
        own = {"mask_token": self.mask_token.detach()} if hasattr(self, "mask_token") else {}
        return own | {f"model.{name}": tensor for name, tensor in portable(self.model).items()}

    def take_portable(self, state: dict[str, Tensor]) -> None:
        """Takes what `portable_state` gave."""
        if hasattr(self, "mask_token"):
            self.mask_token.data.copy_(state["mask_token"])
        self.take_weights({k.removeprefix("model."): v for k, v in state.items() if k != "mask_token"})

    def take_weights(self, state: dict[str, Tensor]) -> list[str]:
        """Takes a file's tensors under any names that transformers knows; returns those that it had no use for.

        Raises ModelError where the network needs more than there is.
        """
        new, unused = with_weights(self.architecture, state)
        self.model = synchronised(new).train(self.training)
        return unused


def with_weights(architecture: str, state: dict[str, Tensor]) -> tuple[Any, list[str]]:
    """(the network of a config with a file's tensors under any names that transformers knows, the names that it had no use for).

    Raises ModelError where the network needs more than there is.
    """
    config = network_config(architecture)
    kind, arguments = network_class(config)
    with quiet():
        try:
            new, info = kind.from_pretrained(  # type: ignore[attr-defined]
                None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True,
                local_files_only=True, **arguments,
            )  # fmt: skip
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"The weights do not fit the config: {str(error)[:300]}") from error
    missing = sorted(k for k in info["missing_keys"] if not k.endswith(("mask_token", "num_batches_tracked")))
    if missing or info["mismatched_keys"]:
        said = missing or sorted(map(str, info["mismatched_keys"]))
        raise ModelError(f"The weights do not fit the config: {', '.join(said[:3])} missing or of another shape.")
    return new, sorted(info["unexpected_keys"])


def groups_of(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Embeddings, then each layer or stage, then what stands behind them."""
    yield list(model.parameters(recurse=False))
    for child in model.children():
        lists = [m for m in child.children() if isinstance(m, nn.ModuleList)]
        if isinstance(child, nn.ModuleList):
            yield from (list(layer.parameters()) for layer in child)
        elif lists:
            yield from groups_of(child)
        else:
            yield list(child.parameters())


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and load reports; what was set comes back."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
