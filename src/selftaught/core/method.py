"""Method (learns by gradient) and ClosedForm (does not): one file under methods/ holds one pretext task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from . import module
from .batch import Batch, Draw, Target, Tokens, Transform, View
from .duration import Duration
from .encoder import Encoder
from .sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a method may know before training: of the data, of the budget, of the machine.  Never labels."""

    rows: int
    modality: Any
    """The configured modality object of modalities/: default views, encoders, targets; plain settings, no data."""
    steps: int | None = None
    """The horizon; None before the calibration."""
    minutes: float | None = None
    batch: int | None = None
    dim: int | None = None
    """Width of the encoder, once there is one."""
    groups: bool = False
    """Whether rows carry a group (document, clip, patient), so that rows = "same group" can be asked for."""
    device: str = "cpu"
    dtype: str = "float32"
    multiple: int | None = None
    """What sides of cropped pictures must be multiples of, where the encoder takes no others (its patch, or the whole side)."""
    reads: str = ""
    """The part of a view that the encoder reads, where it could be one of several: "wave" or "mel" of sounds."""
    sample: View | None = None
    """A few raw rows, for what shows on data alone: how wide a target is."""

    def example(self, encoder: Encoder, transform: Transform) -> tuple[Tokens, Target]:
        """Tokens and target of the sample under `transform`: methods that predict tokens size their heads by them."""
        if self.sample is None:
            raise ValueError("this method sizes its head by an example: give Facts(sample=a raw view of a few rows)")
        view = transform(self.sample, Draw(torch.arange(len(self.sample))))
        was = encoder.training
        encoder.eval()  # running statistics begin with the first step
        with torch.no_grad():
            tokens = encoder.tokenize(view)
        encoder.train(was)
        return tokens, self.modality.target(view, tokens.grid)


@dataclass(kw_only=True)
class Recipe:
    """How the loop trains: chosen by the method from the facts, then overridden by file and flags, and written down."""

    batch: int = 256
    """Rows in a step, over all processes."""
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    """Peak learning rate for this batch size (already scaled)."""
    weight_decay: float = 0.05
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05
    """Share of the horizon over which the rate rises linearly."""
    schedule: Literal["cosine", "linear", "constant", "one-cycle", "slanted-triangular"] = "cosine"
    """After the warm-up; one-cycle (Smith 2018) and slanted-triangular (ULMFiT) say how the warm-up goes too, and one-cycle moves the momentum."""
    final: float = 0.0
    """The last rate as a share of the peak."""
    clip: float = 0.0
    """Largest gradient norm; 0 leaves gradients alone."""
    accumulate: int = 1
    """Micro-batches in a step."""
    encoder_rate: float = 1.0
    """The encoder's rate as a share of `lr`: below 1 where its weights are pretrained and what stands beside it is new."""
    layer_decay: float = 1.0
    """Each layer of the encoder learns at this share of the one above it (1: all alike)."""
    duration: Duration = field(default_factory=lambda: Duration(10, "minutes"))
    scaled: dict[str, str] = field(default_factory=dict)
    """{number: "paper's value -> ours, because"}: said on screen and written to config.toml."""


@dataclass(frozen=True)
class ViewSpec:
    """One view: how it is made, its role, and of which rows.  The loader fetches partner rows."""

    transform: Transform
    role: str = "global"
    rows: Literal["one", "next", "other document", "same group"] = "one"


@dataclass
class Kept:
    """What a run leaves: the encoder and named parts beside it (decoder, language-model head, projector, codebook).

    `ties` maps a parameter of a part to the encoder parameter that it shares ("head.weight": "embedding.weight"):
    stored once, tied again on loading.  `sides` are plain data written beside them, {file name: content of a JSON file}.
    """

    encoder: Encoder
    parts: dict[str, nn.Module] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    sides: dict[str, dict] = field(default_factory=dict)


class Method(nn.Module):
    """A pretext task trained by gradient.  Fields are plain data: their docstrings are the command line's help.

    An option `packing` ("isolated", "bos_bestfit" or "none") says how rows are laid into sequences of one length where the modality can.

    The loop calls `method(batch)`; `forward` is `loss` (calling `.module.loss` past DDP would leave gradients
    unsynchronised).  `loss` changes no state but normalisation statistics; state moves in `after_step`.
    """

    family: ClassVar[str] = ""  # contrastive, distillation, decorrelation, clustering, generative, predictive
    paper: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    """Capabilities asked for: of the modality's `offers` ("augment", "local", "turn", "tiles", "target") and of the encoder's
    `can` ("tokens", "mask", "causal")."""
    couples_rows: ClassVar[bool] = False
    """Whether rows of a batch meet in the loss: then micro-batches cannot simply be summed."""
    closed_form: ClassVar[bool] = False
    commits: ClassVar[frozenset[str]] = frozenset()
    """Outputs of `loss` that are no scalars for the log but what `after_step` commits: summed over ranks already, added up over
    micro-batches."""
    folders: ClassVar[frozenset[str]] = frozenset()
    """Options that may name a folder: a run writes them down as absolute paths, so that it resumes from anywhere."""
    tokenizer: ClassVar[str | None] = None
    """The kind of tokenizer that it wants of a text modality ("words"); None: the modality's own choice."""
    context: ClassVar[int | None] = None
    """How many tokens of a text it wants to be read at once, where --size does not say: word vectors cost no more for more of them."""
    encoder: Encoder

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        module.adopt(cls)

    def __new__(cls, *args, **kwargs):
        return module.begin(cls)

    def defaults(self, facts: Facts) -> Recipe:
        """Batch, learning rate and schedule for these data and this budget."""
        raise NotImplementedError

    def views(self, facts: Facts) -> list[ViewSpec]:
        """The views of a batch, in order."""
        raise NotImplementedError

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        """Takes the encoder and builds what stands beside it.  Called once, before the optimiser is made."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What `setup` found out and a user should hear, in sentences."""
        return []

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss": scalar with gradient, other scalars for the log, optional "features": (B, D) detached, for alarms, "positives": (B, D) detached,
        the same rows through another view (alignment is logged), "baseline": what a blind guess would lose, "code_perplexity" and "codes", and what `commits` names}.

        local sum x processes / global count (losses.mean does it), fp32 inside.
        """
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(batch)

    def count(self, batch: Batch) -> Tensor | None:
        """Number of targets in this batch where it is not the number of rows (masked tokens): asked when accumulating.

        (k,) numbers where the loss is a sum of k means over targets of their own; `batch.total` then holds as many."""
        return None

    def embed(self, batch: Batch) -> Tensor | None:
        """(B, ..., P): what rows contribute to a loss that couples them.  With `couple`, it makes accumulation exact
        (embed all micro-batches -> couple -> replay); None (the default): accumulation is refused."""
        return None

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        """The loss of all rows' embeddings (B_step, ..., P)."""
        raise NotImplementedError

    def param_groups(self) -> list[dict]:
        """Trainable parameters in groups; "lr_scale" and "weight_decay" may differ.  Default: no decay on vectors."""
        trained = [p for p in self.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        groups: list[dict] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        return [g for g in groups if g["params"]]

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        """Queue, centre, EMA teacher: committed here, only after a step that was applied."""

    refresh_at: ClassVar[tuple[Duration | float, ...]] = ()
    """The periods after which `refresh` runs, step 0 included (DeepCluster: every epoch); a number is a share of the run (HuBERT: every half)."""

    def refresh(self, sweep: Iterable[Batch]) -> None:
        """A pass over the data: batches of one clean view, every row once, in order; in eval mode and without gradient.

        What is made of it belongs into buffers, so that a checkpoint holds it.  Every rank sees all rows and must come to the same
        result.  Its time counts towards the budget."""

    def show(self, batch: Batch) -> list[Sheet]:
        """Pictures of what the method does with one clean view of a few rows: values, no drawing.

        Asked in eval mode, without gradient, on one process (no collectives), and only where the modality offers "drawn"."""
        return []

    def nearness(self, batch: Batch) -> Tensor | None:
        """(B, K): how near each row of one clean view is to each of K clusters, higher is nearer; None where there are none.
        Asked as `show` is."""
        return None

    def keep(self) -> Kept:
        return Kept(self.encoder)


class ClosedForm:
    """A representation worked out without gradient.  Subclasses are dataclasses of plain data, like methods."""

    family: ClassVar[str] = "closed form"
    paper: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    closed_form: ClassVar[bool] = True
    folders: ClassVar[frozenset[str]] = frozenset()
    tokenizer: ClassVar[str | None] = None
    context: ClassVar[int | None] = None
    """As a Method's."""
    begins_with: ClassVar[frozenset[str]] = frozenset()
    """Libraries whose models `--encoder LIBRARY:FILE` may give it to begin with: its option `start` then names the file."""
    exact: ClassVar[bool] = True
    """Whether a second fit gives the same bits (lock-free word vectors do not)."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        module.adopt(cls)

    def prepare(self, facts: Facts, seed: int) -> Self:
        """Fixes what depends on the data and the budget.  Called once, before fit.  May set `core_seconds`, an estimate."""
        raise NotImplementedError

    def fit(self, data, state: dict[str, Tensor] | None) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yields (checkpointable state, fraction done in 0-1); given a yielded state it goes on from there.

        `data.fetch(index) -> View` and `len(data)`, as datasets have.
        """
        raise NotImplementedError

    def news(self) -> list[str | dict[str, float]]:
        """What came up in `fit` since it was last asked: sentences to be said, and figures for the run's log ("loss" is the run's)."""
        return []

    def finish(self) -> Kept:
        raise NotImplementedError
