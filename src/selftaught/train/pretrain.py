"""`pretrain`: data without labels -> a run folder with a trained encoder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import methods, modalities
from ..core import ClosedForm, Encoder, Facts, dist
from ..core.errors import DataError, RequestError, SelftaughtError
from ..core.listener import Listener
from ..data import splits
from ..nets import store
from . import checkpoint, starts
from .closed_form import fit_closed_form
from .gradient import train_method
from .job import Job, choose_method
from .precision import device_of
from .run import Run, environment
from .settings import Settings


@dataclass(frozen=True)
class Pretrained:
    """What `pretrain` returns: the run folder and the numbers that `--json` prints."""

    run: Run
    result: dict[str, Any]

    def encoder(self) -> Encoder:
        """The trained encoder, read from the run's folder."""
        return store.load_encoder(self.run.encoder)

    def __fspath__(self) -> str:
        return os.fspath(self.run.folder)


def pretrain(
    data,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    save_every: int | None = None,
    track: str | None = None,
    listener: Listener | None = None,
    stop=lambda: False,
    **settings,
) -> Pretrained:
    """Learns a representation from `data` without labels.

    data: a folder, a file, "hf:NAME", "digits", an array of images (N, H, W[, C]) uint8, a list of texts or of arrays, or a
    Dataset.  settings: the fields of `Settings` (method, encoder, minutes | epochs | steps, seed, ...).  out: the run's folder;
    resume: go on where its newest good checkpoint stands.  Raises RequestError, DataError, ModelError, AlarmError.
    """
    listener = listener or Listener()
    described = data if isinstance(data, str) else os.fspath(data) if isinstance(data, os.PathLike) else "python object"
    wanted = Settings.of({"data": described, **{k: v for k, v in settings.items() if v is not None}})
    with torch.random.fork_rng(devices=[]):
        return _pretrain(data, wanted, out, resume, overwrite, save_every, track, listener, stop)


def resume(folder: str | Path, *, data=None, **keywords) -> Pretrained:
    """Goes on with the run in `folder`, by its own config.toml.  A finished run is returned as it is."""
    run = Run.open(folder)
    config = run.config()
    listener = keywords.get("listener") or Listener()
    status = run.read_json("status.json") if (run.folder / "status.json").exists() else {}
    if status.get("state") == "done" and (run.encoder / "config.json").exists():
        listener.say(f"{run.folder} is finished already (step {status.get('step')}); nothing to do.")
        return Pretrained(run, {**run.read_json("result.json"), "resumed_from_step": status.get("step", 0)})
    if data is None and config["data"] == "python object":
        raise RequestError(
            "This run was given a Python object as data.",
            "Resume it from Python, with the same object: resume(folder, data=...).",
        )
    described = {k: v for k, v in config.items() if k not in ("data", "resolved")}
    return pretrain(data if data is not None else config["data"], out=folder, resume=True, **described, **keywords)


def _pretrain(data, settings, out, resume, overwrite, save_every, track, listener, stop) -> Pretrained:
    device = device_of(settings.device)
    join_processes(device)
    settings = settings if resume else with_rate(settings, listener)
    whole = open_dataset(data, settings, listener, starts.folder_of(settings, out, resume))
    dataset, held_out, held = _apart(whole, settings, listener)
    if len(dataset) < 2:
        raise DataError(
            f"{settings.data} holds {len(dataset)} usable row.",
            "Self-supervised learning compares rows: give at least a few dozen.",
        )
    minutes = settings.minutes
    facts = Facts(
        rows=len(dataset),
        modality=dataset.modality,
        minutes=minutes,
        device=device.type,
        groups=settings.group is not None or "document" in dataset.columns,
    )
    kind = choose_method(settings.method, dataset.modality, listener, settings.encoder)
    options = {
        k: _absolute(v) if k in kind.cls.folders and isinstance(v, str) else v for k, v in settings.options.items()
    }
    settings = replace(settings, options=options)
    method = kind.build(settings.options, dataset.modality)
    run = _folder(out, settings, kind.name, resume, overwrite)
    start = starts.absolute(settings.encoder) if settings.encoder else None
    settings = replace(settings, method=kind.name, data=_absolute(settings.data), encoder=start)
    job = Job(settings, dataset, facts, method, run, listener, device, save_every, stop, track, resume, held_out)
    if dist.rank() == 0:
        run.write_json("env.json", environment())
        about = {"fingerprint": dataset.fingerprint, "rows": len(dataset), "modality": dataset.modality.config()}
        kept = run.read_json("data.json").get("start") if resume and (run.folder / "data.json").is_file() else None
        run.write_json("data.json", {**about, "holdout": held, **({"start": kept} if kept else {})})
        if dataset.rejected:
            dataset.rejected.write(run.folder / "rejected.jsonl")
        if not resume:
            run.write_config(settings.plain())
        run.status("running", step=0)
        checkpoint.clear_unfinished(run.checkpoints)
    try:
        way = fit_closed_form if isinstance(method, ClosedForm) else train_method
        result = way(job)
    except BaseException as error:
        refused = isinstance(error, RequestError) and not resume and dist.world() == 1
        if dist.rank() == 0 and not (refused and run.discard()):  # the next attempt may take the same folder
            interrupted = isinstance(error, KeyboardInterrupt)
            run.status("interrupted" if interrupted else "failed", reason=str(error) or type(error).__name__)
            if isinstance(error, SelftaughtError):
                run.log(f"{error.kind}: {error.message}")
        raise
    return Pretrained(run, result)


def _apart(whole, settings: Settings, listener: Listener):
    """(rows to learn from, rows that are never seen, how data.json tells which); None and None where all are learned from."""
    column, names = settings.left_out()
    said: dict[str, Any]
    if names:
        kept, held = splits.leave_out(whole, column, names)
        what, said = f"left out ({column} {', '.join(names)})", {"group": column, "left_out": list(names)}
    elif settings.holdout:
        kept, held = splits.hold_out(whole, settings.holdout, group=settings.group)
        what, said = "holdout", {"share": settings.holdout, "group": settings.group}
    else:
        return whole, None, None
    listener.say(f"{what}: {len(held)} of {len(whole)} rows are never seen; evaluate tests on them.")
    return whole.subset(kept), whole.subset(held), {**said, "of": whole.fingerprint}


def join_processes(device: torch.device) -> None:
    """Under torchrun: joins the process group before anything is written, so that only rank 0 writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu")


def open_dataset(data, settings: Settings, listener: Listener, folder: Path | None = None):
    """The packed dataset of `data`, whatever it is; as the run read its rows, where the encoder is a run's (in `folder`)."""
    start = modality_of_start(settings, listener, folder)
    dataset = modalities.open_data(
        data, modality=start or settings.modality, column=settings.column, group=settings.group, names=settings.names, size=settings.size or (None if start else wanted_context(settings)),
        tokenizer=None if start else settings.tokenizer or wanted_tokenizer(settings), rate=settings.rate, max_bad=settings.max_bad, say=listener.say,
        progress=lambda done, total, bad: listener.progress("packing", done, total, f"{bad} set apart" if bad else ""),
    )  # fmt: skip
    if start is not None:
        ours, theirs = (m.config() for m in (dataset.modality, start))
        if any(ours.get(key) != theirs.get(key) for key in ("name", "tokenizer")):
            raise RequestError(
                f"The data were packed in another way than {settings.encoder} reads them ({ours['name']}, {theirs['name']}).",
                "Give the path of the data, so that they are packed with the encoder's own settings.",
            )
    return dataset


def wanted_tokenizer(settings: Settings) -> str | None:
    """That of the model of transformers that the run starts from, or the kind that the method asks for, where it is named and asks."""
    library, _, folder = (settings.encoder or "").partition(":")
    if library == "transformers" and (Path(folder) / "tokenizer.json").is_file():
        return folder
    return methods.find(settings.method).tokenizer if settings.method else None


def with_rate(settings: Settings, listener: Listener) -> Settings:
    """The settings with the rate at which the named model of transformers hears, said aloud; as they are where it hears none.  RequestError where another is asked for."""
    library, _, source = (settings.encoder or "").partition(":")
    if library != "transformers" or not source:
        return settings
    from ..nets.pretrained import sound_rate

    rate = sound_rate(source, download=settings.encoder_options.get("download") is True)
    if rate is None or settings.rate == rate:
        return settings
    if settings.rate is not None:
        raise RequestError(
            f"--rate {settings.rate}: the model in {source} hears {rate} samples a second; at another rate every sound would be higher or lower to it than what it learned from.",
            f"Leave --rate out: sounds are resampled to {rate} Hz.",
        )
    listener.say(f"rate: {rate} Hz, at which the model in {source} hears; sounds of other rates are resampled.")
    return replace(settings, rate=rate)


def wanted_context(settings: Settings) -> int | None:
    """The context in tokens that the method asks for, where it is named and asks."""
    return methods.find(settings.method).context if settings.method else None


def modality_of_start(settings: Settings, listener: Listener, folder: Path | None = None):
    """The modality that was saved beside the encoder that a run starts from: its ids and sizes must mean the same; None without one."""
    folder = folder or starts.folder_of(settings, None, False)
    if folder is None:
        return None
    found = modalities.load(store.find(folder))
    if settings.modality not in (None, found.name):
        raise RequestError(f"--encoder {settings.encoder} is for {found.name}, not {settings.modality}.")
    if settings.tokenizer is not None:
        raise RequestError(
            f"--tokenizer is that of the encoder in {settings.encoder}.",
            "Leave --tokenizer out, or begin with a fresh encoder.",
        )
    if settings.rate not in (None, getattr(found, "rate", None)):
        raise RequestError(f"--rate {settings.rate} is not that of the encoder in {settings.encoder}.", "Leave it out.")
    if settings.size is not None:
        raise RequestError(
            f"--size is that of the encoder in {settings.encoder}.", "Leave --size out, or begin with a fresh encoder."
        )
    listener.say(f"rows are read as {settings.encoder} reads them: {found.describe()}.")
    return found


def _folder(out, settings: Settings, method: str, resume: bool, overwrite: bool) -> Run:
    """The run's folder; without `out`, the first free runs/DATA-METHOD[-N]."""
    if resume:
        return Run.open(out)
    if dist.rank() == 0:
        if out is None:
            stem = Path("runs") / f"{Path(settings.data).stem or 'data'}-{method}".replace(":", "-").replace(" ", "-")
            out = next(
                p for p in (stem, *(stem.with_name(f"{stem.name}-{n}") for n in range(2, 10_000))) if not p.exists()
            )
        run: Run | None = Run.create(out, overwrite=overwrite)
    else:
        run = None
    return dist.broadcast_object(run)


def _absolute(data: str) -> str:
    """A path that is there, from the root; behind transformers: and timm: too.  Other text as it is."""
    library, colon, rest = data.partition(":")
    if colon and library in ("transformers", "timm"):
        return f"{library}:{_absolute(rest)}"
    return str(Path(data).resolve()) if data and Path(data).exists() else data
