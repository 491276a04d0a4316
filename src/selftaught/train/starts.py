"""A pretraining that starts from a model: which one it was, whether it fits the data, and what is kept of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import nets
from ..core import Encoder, Kept, Recipe, dist
from ..core.errors import ModelError, RequestError
from ..nets import store
from ..nets.pretrained_speech import kept_beside, take_beside
from .run import Run
from .settings import Settings

if TYPE_CHECKING:
    from .job import Job

FOLDER = "start"
"""In a run's folder: the encoder as it was before continuing, so that what continuing did can be measured later."""
ENCODER_RATE, WARMUP = 0.3, 0.1
"""What pretrained weights learn at, as a share of the method's rate, and the least warm-up: new heads are noise at first."""
LOOKED_AT = 64
"""Rows whose original size and colours are looked at."""


def continues(job: Job) -> bool:
    """Whether a run starts from pretrained weights."""
    return (job.resume and (job.run.folder / FOLDER).is_dir()) or names_weights(job.settings)


def names_weights(settings: Settings) -> bool:
    """Whether `--encoder` names weights, not an architecture alone."""
    name, options = settings.encoder or "", settings.encoder_options
    if not name or Path(name).is_dir():
        return bool(name)
    library, colon, rest = name.partition(":")
    if not colon or library not in nets.LIBRARIES or options.get("weights") is False:
        return False
    return library != "timm" or "." in rest or os.path.lexists(rest)


def absolute(name: str) -> str:
    """`--encoder` as it can be found again from elsewhere."""
    library, colon, rest = name.partition(":")
    if colon and library in nets.LIBRARIES:
        return f"{library}:{Path(rest).resolve()}" if os.path.lexists(rest) else name
    return str(Path(name).resolve()) if Path(name).exists() else name


def folder_of(settings: Settings, run: str | Path | None, resume: bool) -> Path | None:
    """The folder of ours that a run starts from: on resuming, what the run itself kept of it; None where it starts from none."""
    name = settings.encoder
    if name is None or name.partition(":")[0] in nets.LIBRARIES:
        return None
    if resume and run is not None and (Path(run) / FOLDER).is_dir():
        return Path(run) / FOLDER
    return Path(name) if Path(name).is_dir() else None


def load(job: Job) -> Encoder:
    """The encoder that a run starts from."""
    name, kept = job.settings.encoder or "", job.run.folder / FOLDER
    if job.resume and kept.is_dir():
        encoder = store.load_encoder(kept)
        take_beside(encoder, kept)
    elif Path(name).is_dir():
        if job.settings.encoder_options:
            raise RequestError(
                f"The encoder in {name} brings its own options; {', '.join(job.settings.encoder_options)} cannot be changed.",
                "Leave out --set encoder_options..., or begin with a fresh encoder.",
            )
        encoder = store.load_encoder(store.find(name))
    else:
        kind, options = nets.parse(name)
        encoder = nets.build(kind, **{**options, **job.settings.encoder_options})
    if not any(p.requires_grad for p in encoder.parameters()):
        raise RequestError(
            f"Nothing in the encoder of {name} can be trained: a closed form made it.",
            "Use it as it is (evaluate, embed, predict), or leave --encoder out; a network that learns from it: --method distil --teacher RUN.",
        )
    job.listener.say(f"encoder: starts from the weights in {name}.")
    return encoder


def begin(job: Job, encoder: Encoder) -> None:
    """Says what does not fit between model and data, and keeps the start: run/start and "start" in data.json."""
    found = _mismatches(job, encoder)
    if job.resume and "start" in job.run.read_json("data.json"):
        return
    for mismatch in found:
        job.tell(f"WARNING {mismatch['text']} {mismatch['remedy']}".rstrip())
    if dist.rank() == 0:
        store.save(job.run.folder / FOLDER, Kept(encoder), sides=kept_beside(encoder), fill=job.data.modality.save)
        about = {"model": job.settings.encoder, "fingerprint": store.fingerprint(encoder), "warnings": found}
        job.run.write_json("data.json", {**job.run.read_json("data.json"), "start": about})


def _mismatches(job: Job, encoder: Encoder) -> list[dict[str, str]]:
    """[{"kind", "text", "remedy"}] of the modality; RequestError where the model cannot take these rows at all."""
    check = getattr(job.data.modality, "mismatches", None)
    if check is None:
        return []
    places = np.unique(np.linspace(0, len(job.data) - 1, min(LOOKED_AT, len(job.data))).astype(np.int64))
    own = job.settings.encoder is not None and Path(job.settings.encoder).is_dir()
    payloads = [job.data.payload(int(i)) for i in places] if job.data.source.random_access else []
    return check(encoder, job.data.fetch(places), payloads, own)


def gentle(job: Job, recipe: Recipe) -> Recipe:
    """The method's recipe for weights that are pretrained already, said aloud; what the user sets overrules it afterwards."""
    changed = replace(recipe, encoder_rate=ENCODER_RATE, warmup=max(recipe.warmup, WARMUP))
    if "encoder_rate" not in job.settings.recipe:
        job.tell(
            f"continuing: the encoder learns at {ENCODER_RATE:g} of the rate (what begins anew beside it at all of it) after a warm-up over "
            f"{changed.warmup:.0%} of the steps, as its weights are pretrained. Others: --set recipe.encoder_rate=1; "
            "--set recipe.layer_decay=0.75 changes lower layers less."
        )
    return changed


def read(folder: Path) -> tuple[Encoder, str] | None:
    """(the start that a run kept, its name) from the run's folder; None where the run began anew.

    Raises ModelError where the start is gone or is not the one that the run began with: nothing else is put in its place.
    """
    about = Run(folder).read_json("data.json").get("start") if (folder / "data.json").is_file() else None
    if not isinstance(about, dict):
        return None
    name, place = str(about.get("model")), folder / FOLDER
    if not place.is_dir():
        raise ModelError(f"The start of this run ({name}) was kept in {place}, which is gone.", "Put the folder back.")
    encoder = store.load_encoder(place)
    if store.fingerprint(encoder) != about.get("fingerprint"):
        raise ModelError(
            f"The encoder in {place} is not the one that this run began with ({name}): its weights have changed.",
            "Put back the folder that pretraining wrote.",
        )
    return encoder, name
