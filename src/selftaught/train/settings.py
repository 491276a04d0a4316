"""What a pretraining is told: from Python, flags, a TOML file or a run's own config.toml, merged and checked in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..core import Duration, Recipe, module
from ..core.errors import RequestError, nearest

MODES = ("auto", "float32", "bfloat16")


@dataclass(kw_only=True)
class Settings:
    """Everything that decides a run.  `None` means: chosen from the data and the machine, said aloud and written down."""

    data: str
    """A folder, file, hf:NAME or digits."""
    method: str | None = None
    """The pretext task."""
    encoder: str | None = None
    """resnet-small, resnet18, vit-tiny, ...; or weights to start from: a run folder, transformers:FOLDER, timm:FOLDER, torchvision:FILE."""
    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    modality: str | None = None
    """image, text or series."""
    column: str | None = None
    """The column that holds the data."""
    group: str | None = None
    """The column that says which rows belong together (patient, document, clip)."""
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}"."""
    size: int | None = None
    """Side of stored images, context length, or milliseconds of sound."""
    tokenizer: str | None = None
    """Of text: bpe, wordpiece, unigram, bytes, words, "bpe:8000", or the folder of a model; None: what the method or the modality wants."""
    word_start: bool | None = None
    """Of text: whether a fresh transformer's token table begins with skip-gram vectors; None: where vocabulary and corpus are large enough."""
    rate: int | None = None
    """Of sound: samples a second that are kept, in Hz; None: the files' own, up to 16000."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    holdout: float = 0.0
    """Share of the rows that training never sees: evaluate and finetune test on them.  (Sizes, means and tokenizer are worked out from all.)"""
    leave_out: str | None = None
    """speaker=anna (several: speaker=anna,ben): rows of these groups are never seen by training, so that evaluate can test on people that are new to it."""
    threads: int = 2
    """Threads that fetch and decode data."""
    options: dict[str, Any] = field(default_factory=dict)
    """The method's own options."""
    encoder_options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    """Overrides of the method's recipe: batch, lr, optimizer, ..."""

    def __post_init__(self):
        if not 0 <= self.max_bad <= 1:
            raise RequestError(
                f"--max-bad {self.max_bad} is not a share.", "Give a number from 0 to 1; 0.01 is one row in a hundred."
            )
        if not 0 <= self.holdout < 1:
            raise RequestError(f"--holdout {self.holdout} is no share of the rows.", "Give a number from 0 to below 1.")
        if self.leave_out is not None and (self.holdout or not all(self.left_out())):
            raise RequestError(
                f"--leave-out {self.leave_out} cannot be followed.",
                "Say COLUMN=NAME (speaker=anna), and leave --holdout out: one of them says what training never sees.",
            )
        if self.precision not in MODES:
            raise nearest(self.precision, MODES, "precision")
        if self.threads < 1:
            raise RequestError(f"--threads {self.threads} is not a number of threads.", "Give at least 1.")

    def left_out(self) -> tuple[str, tuple[str, ...]]:
        """(column, names) of `leave_out`; ("", ()) where nothing is left out."""
        column, _, names = (self.leave_out or "").partition("=")
        return column.strip(), tuple(name.strip() for name in names.split(",") if name.strip())

    def duration(self, default: Duration) -> Duration:
        return Duration.of(minutes=self.minutes, epochs=self.epochs, steps=self.steps, default=default)

    @classmethod
    def of(cls, values: dict) -> Settings:
        """From nested plain data; unknown names are errors that tell the nearest one."""
        names = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in values.items() if k != "resolved"}  # what a run's config.toml adds for the reader
        for name in values:
            if name not in names:
                raise nearest(name, names, "setting")
        if "data" not in values:
            raise RequestError("No data were given.", "Name a folder, a file, hf:NAME or digits.")
        return module.build(
            cls,
            {k: v for k, v in values.items() if k not in TABLES},
            "the settings",
            **{k: dict(values.get(k, {})) for k in TABLES},
        )

    def plain(self) -> dict:
        return dataclasses.asdict(self)


TABLES = ("options", "encoder_options", "recipe")


def overridden(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """`recipe` with the user's changes; unknown names and wrong types are errors."""
    names = {f.name: f for f in dataclasses.fields(Recipe) if f.name not in ("duration", "scaled")}
    for name in changes:
        if name not in names:
            raise nearest(name, names, "setting of the recipe")
    plain = {k: v for k, v in dataclasses.asdict(recipe).items() if k in names}
    checked = module.build(Recipe, {**plain, **changes}, "the recipe")
    changed = dataclasses.replace(checked, duration=recipe.duration, scaled=recipe.scaled)
    if changed.batch < 1 or changed.accumulate < 1:
        raise RequestError(f"batch = {changed.batch}, accumulate = {changed.accumulate}: both must be at least 1.")
    if changed.lr <= 0:
        raise RequestError(f"lr = {changed.lr} is no learning rate.", "Give a number above 0.")
    for name, share in (("encoder_rate", changed.encoder_rate), ("layer_decay", changed.layer_decay)):
        if not 0 < share <= 1:
            raise RequestError(f"{name} = {share} is no share of a rate.", "Give a number above 0, at most 1.")
    return changed
