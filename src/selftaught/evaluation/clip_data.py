"""Opening sounds with what is to be found in them: transcripts, labelled stretches; and their split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import tasks
from ..core import DataError, Ragged, RequestError
from ..core.errors import nearest
from ..core.listener import Listener
from ..core.task import Task
from ..data import Dataset, duplicates, open_source, splits
from ..data.segments import open_segments
from ..data.transcripts import transcripts
from ..losses.ctc import frames_needed
from ..measures.frames import Segments
from ..measures.transcripts import NORMALISERS
from ..modalities.sound import ROW_VALUES
from ..nets.listening import listening, noise
from ..tasks import frames as frames_task
from ..tasks import transcribe
from ..train.clips import PLAN, SPELLING, Clips
from ..train.finetune import Plan
from .dense import SPLIT
from .fitting import Pool, pooled
from .opening import open_encoders

BLANK_BIAS = 2.0
"""Where a new head's blank begins: above the other outputs, as most frames of speech are blank, so that training need not learn that first."""


@dataclass
class Spoken:
    """Clips with what is said in them (train.clips.Clips)."""

    sounds: Dataset
    texts: list[str]
    task: transcribe.Transcribe

    def __post_init__(self):
        found = [self.task.spelled(text) for text in self.texts]
        self.unknown = np.array([lost for _, lost in found], np.int64)
        """(len,) characters of each that are none of the task's."""
        offsets = np.concatenate([[0], np.cumsum([len(codes) for codes, _ in found])])
        flat = np.concatenate([np.zeros(0, np.int64), *(codes for codes, _ in found)])
        self.codes = Ragged(torch.from_numpy(flat), torch.from_numpy(offsets.astype(np.int64)))
        self.needed = frames_needed(self.codes).numpy()

    def __len__(self) -> int:
        return len(self.texts)

    def targets(self, places: np.ndarray, frames: Tensor) -> Ragged:
        return self.codes.take(torch.from_numpy(places))

    def least(self, places: np.ndarray) -> np.ndarray:
        return self.needed[places]

    def truth(self, places: np.ndarray) -> list[str]:
        return [self.texts[place] for place in places.tolist()]


@dataclass
class Labelled:
    """Clips with labelled stretches (train.clips.Clips)."""

    sounds: Dataset
    segments: list[Segments]
    task: frames_task.Frames

    def __len__(self) -> int:
        return len(self.segments)

    def targets(self, places: np.ndarray, frames: Tensor) -> Tensor:
        return self.task.targets(self.truth(places), frames)

    def least(self, places: np.ndarray) -> np.ndarray:
        return np.ones(len(places), np.int64)

    def truth(self, places: np.ndarray) -> list[Segments]:
        return [self.segments[place] for place in places.tolist()]


@dataclass
class Found:
    """The clips of one source that have an answer: the sounds, the answers (texts or Segments), and which clips belong together."""

    sounds: Dataset
    answers: list
    groups: np.ndarray | None
    column: str = ""
    """Where the answers stand."""
    labels: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def open_sounds(spec, modality, *, column: str | None = None, max_bad: float = 0.01) -> Dataset:
    """The whole clips of `spec`, long ones not cut into pieces; a Dataset as it is.  RequestError where it holds no sounds."""
    if hasattr(spec, "fetch"):
        return spec
    source = open_source(spec)
    guess = modality.sniff(source)
    if column is None and guess is None:
        raise RequestError(
            f"{source.name} holds no sounds.", "Give a folder or a table with sounds (WAV, FLAC, OGG, MP3)."
        )
    return Dataset.open(source, column or guess.column, modality, max_bad=max_bad)


def lengths_of(sounds: Dataset) -> np.ndarray:
    """(len,) int64 samples."""
    if sounds.lengths is not None:
        return sounds.lengths
    return np.array([int(sounds.fetch([row])["length"][0]) for row in range(len(sounds))], np.int64)


class Opener:
    """Opens clips as an encoder and a task need them; the training clips decide what the task's outputs are."""

    def __init__(self, run, task: str, pool: Pool, options: dict[str, Any], listener: Listener):
        encoders, modality = open_encoders(run)
        if modality is None or modality.name != "sound":
            read = "a network in memory" if modality is None else modality.name
            raise RequestError(
                f"{task} needs the folder of an encoder of sounds; this one is of {read}.",
                "Give a run that was pretrained on sounds.",
            )
        self.encoder = pooled(encoders[0], pool, noise(torch.tensor([modality.rate])))
        self.modality, self.listener = modality, listener
        self.kind = tasks.find(task)
        self.spoken = self.kind.wants == "transcript"
        self.options = {name: value for name, value in options.items() if value is not None}
        self._check()
        self.ear = listening(self.encoder, modality.rate)
        self.task: Any = None
        self.labels: tuple[str, ...] | None = None

    def _check(self) -> None:
        """RequestError for options that make no sense, or are for the other task."""
        if self.options and not self.spoken:
            raise RequestError(f"--{next(iter(self.options))} is for --task transcribe.", "Leave it out.")
        for name in ("beams", "upsample"):
            if self.options.get(name, 1) < 1:
                raise RequestError(f"{name} = {self.options[name]} writes nothing.", "Give a number from 1.")
        if (given := self.options.get("normaliser", "none")) not in NORMALISERS:
            raise nearest(given, NORMALISERS, "normaliser of transcripts")

    def open(self, data, labels: str | Sequence[str] | None, column: str | None, group: str | None, max_bad: float) -> Found:  # fmt: skip
        """The clips of `data` that have an answer and are whole; what was left out is said."""
        sounds = open_sounds(data, self.modality, column=column, max_bad=max_bad)
        lengths, groups = lengths_of(sounds), sounds.groups(group)
        whole = lengths < ROW_VALUES
        if self.spoken:
            texts, where, notes = self._texts(sounds, labels)
            known = np.array([text is not None for text in texts]) & whole
            found = Found(sounds, [texts[k] for k in np.flatnonzero(known)], groups, where, (), notes)
        else:
            marked = open_segments(sounds, lengths / self.modality.rate, labels, self.labels)  # type: ignore[arg-type]
            known, self.labels = whole, marked.labels
            found = Found(sounds, [marked.segments[k] for k in np.flatnonzero(known)], groups, "", marked.labels, marked.notes)  # fmt: skip
        if not known.all():
            found.sounds, found.groups = sounds.subset(known), None if groups is None else groups[known]
        cut = int((~whole).sum())
        found.notes += [f"{cut} clips are longer than {ROW_VALUES / self.modality.rate:.0f} s, are held in part alone, and are left out: cut them."] * bool(cut)  # fmt: skip
        for note in (*sounds.notes, sounds.rejected.summary(), *found.notes):
            if note:
                self.listener.say(note)
        return found

    def _texts(self, sounds: Dataset, labels) -> tuple[np.ndarray, str, list[str]]:
        if labels is None or isinstance(labels, str):
            return transcripts(sounds, labels)
        if len(labels) != len(sounds):
            raise RequestError(f"{len(labels)} transcripts for {len(sounds)} clips.", "Give one text a clip.")
        out = np.empty(len(labels), object)
        out[:] = list(labels)
        return out, "", []

    def fit(self, found: Found, train: np.ndarray) -> Task:
        """Settles the task by the training clips `train` (places), and says what it is."""
        answers = [found.answers[place] for place in train.tolist()]
        if self.spoken:
            self.task = transcribe.fit(answers, blank_bias=BLANK_BIAS, column=found.column, **self.options)
            shown = "".join(c for c in self.task.characters if c != " ")
            self.listener.say(
                f"transcribe: {len(self.task.characters)} characters ({shown[:40]}{'...' if len(shown) > 40 else ''}, space), transcripts "
                f"{NORMALISERS[self.task.normaliser]}; {self.task.upsample / self.ear.seconds:.0f} frames a second."
            )
        else:
            self.task = frames_task.fit(found.labels, answers, stride=self.ear.seconds)
            how = "one at a time" if self.task.one else "each for itself, as they overlap"
            self.listener.say(f"frames: {len(found.labels)} labels ({', '.join(found.labels[:8])}), {how}; a frame is {1000 * self.ear.seconds:.0f} ms.")  # fmt: skip
        return self.task

    def clips(self, found: Found) -> Clips:
        """The clips as `train.clips.tune` takes them, once the task is settled."""
        return (Spoken if self.spoken else Labelled)(found.sounds, found.answers, self.task)  # type: ignore[return-value]

    @property
    def plan(self) -> Plan:
        """How the task is trained unless told otherwise."""
        return SPELLING if self.spoken else PLAN

    def frames(self, clips: Clips, places: np.ndarray) -> np.ndarray:
        """(rows,) frames that the head says of some clips."""
        return self.ear.count(lengths_of(clips.sounds)[places]) * getattr(self.task, "upsample", 1)

    def trainable(self, clips: Clips, train: np.ndarray) -> np.ndarray:
        """The places of `train` that have enough frames; how many have not is said.  DataError where none is left."""
        fits = clips.least(train) <= self.frames(clips, train)
        if not fits.any():
            raise DataError(
                "No training clip has as many frames as its transcript needs.", "Make several of each: --upsample 2."
            )
        if short := int((~fits).sum()):
            self.listener.say(
                f"{short} of {len(train)} training clips have fewer frames than their characters need, cannot be learned, and are left out (--upsample 2 doubles the frames)."
            )
        return train[fits]


def split(found: Found, seed: int, *, tested: bool) -> dict[str, np.ndarray]:
    """{"train", "validation"[, "test"]: places}: groups and exact copies stay together; `tested`: there is a test set already."""
    shares = {"train": 0.8, "validation": 0.2} if tested else SPLIT
    if len(found.sounds) < 2 * len(shares):
        raise DataError(f"{len(found.sounds)} clips with answers are too few to learn from and to test on.", "Give a few dozen.")  # fmt: skip
    copies = duplicates.exact_duplicates(found.sounds)
    return splits.split(len(found.sounds), shares, seed=seed, groups=found.groups, duplicates=copies)
