"""A saved encoder is a folder: model.safetensors, config.json, and parts/NAME.safetensors for what stands beside it.

config.json is {"format": "selftaught", "version": 1, "encoder": Encoder.config(), "parts": {NAME: config or null}, "ties": {...}}.
A part whose config names a kind of `nets.PARTS` is built again on loading; another comes back as `Stored`: its tensors under their
names, for whoever knows the architecture.  Folders are untrusted: nothing is unpickled, links are not followed, names, shapes and
types are compared with the network that the config describes (built on the meta device) before anything is allocated, and weights
that are not finite are refused, on saving too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import torch.nn as nn
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import __version__, nets
from ..core import Encoder, Kept, ModelError, RequestError
from . import bounds, files
from .blank import blank
from .tensors import TensorFile, check_room

FORMAT, VERSION = "selftaught", 1
WEIGHTS, CONFIG, PARTS = "model.safetensors", "config.json", "parts"
LABELS = "labels.json"
"""Beside an encoder with a task's head: what its outputs mean."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Stored(nn.Module):
    """A part whose architecture is not known here: its tensors, under the names that they were saved with."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        for name, tensor in state.items():
            self.place(name, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))

    def place(self, name: str, parameter: nn.Parameter) -> None:
        """Puts a parameter at its dotted name."""
        *path, last = name.split(".")
        home: nn.Module = self
        for step in path:
            if step not in home._modules:
                home.add_module(step, nn.Module())
            home = home._modules[step]  # type: ignore[assignment]
        home.register_parameter(last, parameter)

    def forward(self, *_args, **_kwargs):
        raise ModelError(
            "This part's architecture is not known here.",
            "Build it and give it these tensors: load_state_dict(part.state_dict()).",
        )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Names and tensors, a tensor that stands under several names once; in the names of the library it comes from."""
    portable: Callable[[], dict[str, Tensor]] | None = getattr(module, "portable_state", None)
    if portable is not None:
        return portable()
    seen: set[int] = set()
    state = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach()
    return state


def _blueprint(make: Callable[[], nn.Module], what: str) -> nn.Module:
    """The network on the meta device: names, shapes and types without memory."""
    try:
        with blank():
            return make()
    except ModelError:
        raise
    except (ArithmeticError, LookupError, RequestError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"The config of {what} does not describe a network: {str(error)[:300]}") from error


def save(
    folder: str | Path,
    kept: Kept,
    *,
    sides: Mapping[str, dict | bytes] | None = None,
    fill: Callable[[Path], None] | None = None,
) -> Path:
    """Writes the folder at once (a sibling is written and fsynced, then takes its place); returns it.

    `sides` are further files beside `kept.sides`, {name: dict (as JSON) or bytes}; `fill(path)` may write others into the folder before it takes
    its place (modality.save).  An existing folder is replaced only where it is a saved encoder or empty: else RequestError.
    Raises ModelError where a weight is not finite, ValueError where the encoder's config does not describe it.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    described = _describe(kept)
    tied = set(kept.ties)
    content: dict[str, bytes] = {WEIGHTS: to_bytes(_sound(_like(kept.encoder), "the encoder"))}
    for name, part in kept.parts.items():
        state = {k: v for k, v in state_of(part).items() if f"{name}.{k}" not in tied}
        content[f"{PARTS}/{name}.safetensors"] = to_bytes(_sound(state, f"the part {name!r}"))
    for name, side in {**kept.sides, **(sides or {})}.items():
        if not _NAME.fullmatch(name) or name in (WEIGHTS, CONFIG, PARTS) or name.lower().endswith(files.PICKLES):
            raise ValueError(f"{name!r} cannot be a file beside an encoder")
        content[name] = side if isinstance(side, bytes) else _json(side)
    content[CONFIG] = _json(described)
    files.replace_folder(folder, lambda new: _write(new, content, fill))
    return folder


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _describe(kept: Kept) -> dict:
    for name in kept.parts:
        if not _NAME.fullmatch(name) or "." in name:
            raise ValueError(f"{name!r} cannot be the name of a part: letters, digits, '-' and '_' can")
    for ours, theirs in kept.ties.items():
        part, _, path = ours.partition(".")
        if kept.parts[part].get_parameter(path) is not kept.encoder.get_parameter(theirs):
            raise ValueError(f"{ours!r} is said to be tied to {theirs!r}, but they are two tensors")
    return {
        "format": FORMAT,
        "version": VERSION,
        "encoder": kept.encoder.config(),
        "parts": {name: _part_config(part) for name, part in kept.parts.items()},
        "ties": dict(kept.ties),
        "made_with": {"selftaught": __version__, "torch": str(torch.__version__)},
    }


def _part_config(part: nn.Module) -> dict | None:
    if type(part) is nn.Linear:
        options = {"in_features": part.in_features, "out_features": part.out_features, "bias": part.bias is not None}
        return {"kind": "linear", "options": options}
    describe = getattr(part, "config", None)
    config = describe() if callable(describe) else None
    return config if isinstance(config, dict) and config.get("kind") in nets.PARTS else None


def _like(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's tensors in the types of a new one; ValueError where its own config would build something else."""
    plain = json.loads(_json(encoder.config()))
    wanted = state_of(_blueprint(lambda: nets.rebuild(plain), "the encoder"))
    state = state_of(encoder)
    if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in state.items()}:
        differ = sorted(set(wanted) ^ set(state)) or sorted(k for k in wanted if wanted[k].shape != state[k].shape)
        raise ValueError(f"the encoder's config does not describe it: {differ[:5]} differ")
    for name, tensor in state.items():
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        if tensor.dtype != wanted[name].dtype and not (half and wanted[name].dtype == torch.float32):
            raise ValueError(f"{name} is {tensor.dtype}, which {wanted[name].dtype} of the saved network cannot hold")
    return {k: v.to(wanted[k].dtype) for k, v in state.items()}


def _sound(state: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{name!r} of {what} is not finite: it is not saved.",
                "Lower the learning rate, or go back to a checkpoint.",
            )
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _check_replaceable(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RequestError(f"{str(folder)!r} is no folder: an encoder is not written over it.", "Choose another --out.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise RequestError(
            f"{str(folder)!r} holds something else than a saved model: it is not replaced.", "Choose another --out."
        )


def _write(new: Path, content: dict[str, bytes], fill: Callable[[Path], None] | None) -> None:
    for name, data in content.items():
        path = new / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    if fill is not None:
        fill(new)


def load(folder: str | Path, *, parts: bool | Iterable[str] = True) -> Kept:
    """The encoder (in eval mode) and its parts, from the folder of an encoder or of a run.

    `parts`: True for all, False for none, or names.  Raises ModelError for a folder of another format or version, for missing,
    additional, misshapen or non-finite tensors, and for whatever is not safe to read.  The global random state is left as it was.
    """
    home = find(folder)
    config = _read_config(home)
    wanted = config["parts"] if parts is True else [] if parts is False else list(parts)
    for name in wanted:
        if name not in config["parts"]:
            raise RequestError(
                f"{str(home)!r} holds no part {name!r}.", f"It holds: {', '.join(config['parts']) or 'none'}."
            )
    with torch.random.fork_rng(devices=[]):
        encoder = _load_module(home, WEIGHTS, lambda: nets.rebuild(config["encoder"]), "the encoder", frozenset())
        kept = Kept(encoder, {}, {})  # type: ignore[arg-type]
        for name in wanted:
            kept.parts[name] = _load_part(home, name, config)
    for ours, theirs in config["ties"].items():
        if ours.partition(".")[0] in kept.parts:
            _tie(kept, ours, theirs)
    return kept


def fingerprint(encoder: Encoder) -> str:
    """SHA-256 of an encoder's config and tensors: the same for the same network after saving and loading."""
    digest = hashlib.sha256(json.dumps(json.loads(_json(encoder.config())), sort_keys=True).encode())
    for name, tensor in sorted(state_of(encoder).items()):
        held = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
        if held.numel():
            digest.update(held.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_encoder(folder: str | Path) -> Encoder:
    """The encoder alone (see load)."""
    return load(folder, parts=False).encoder


def find(folder: str | Path) -> Path:
    """The folder that holds the encoder: itself, or `encoder` in the folder of a run."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"There is no folder {str(folder)!r}.", "Give the folder of a run or of a saved encoder.")
    inner = folder / "encoder"
    if not os.path.lexists(folder / CONFIG) and os.path.lexists(inner):
        if inner.is_symlink() or not inner.is_dir():
            raise ModelError(
                f"{str(inner)!r} is a link or a file.", "Refused: a run keeps its encoder in a folder of its own."
            )
        return inner
    return folder


def _read_config(home: Path) -> dict:
    unsafe = files.pickles(home)
    if unsafe:
        raise ModelError(
            f"{str(home)!r} holds {', '.join(unsafe[:3])}: such files can run code when they are read.",
            "Refused: a saved encoder holds safetensors and JSON only; remove them if you trust the rest.",
        )
    config = files.read_json(home, CONFIG)
    if config.get("format") != FORMAT:
        hint = f"For a model of transformers write transformers:{home}." if "model_type" in config else ""
        raise ModelError(f"{str(home)!r} is not an encoder saved by selftaught.", hint)
    if config.get("version") != VERSION:
        raise ModelError(
            f"{str(home)!r} is of format version {str(config.get('version'))[:20]}; this selftaught {__version__} reads {VERSION}.",
            "Load it with the release that wrote it, or update selftaught.",
        )
    expected = {"encoder": dict, "parts": dict, "ties": dict}
    for key, kind in expected.items():
        if not isinstance(config.get(key), kind):
            raise ModelError(f"{CONFIG!r} has no table {key!r}.", "Save or download the model again.")
    for name, part in config["parts"].items():
        if not _NAME.fullmatch(name) or "." in name or not (part is None or isinstance(part, dict)):
            raise ModelError(f"{name[:80]!r} is no name of a part, or its description is none.")
    if not all(isinstance(v, str) for v in config["ties"].values()):
        raise ModelError(f"{CONFIG!r} ties parameters to something that is no name.")
    bounds.check({"encoder": config["encoder"], "parts": config["parts"]})
    return config


def _load_module(home: Path, name: str, make: Callable[[], nn.Module], what: str, absent: frozenset[str]) -> nn.Module:
    """The module of `make` with the tensors of a file; `absent` are those that come from a tie."""
    plan = _blueprint(make, what)
    with TensorFile(home, name) as file:
        _compare(file, {k: v for k, v in state_of(plan).items() if k not in absent}, what)
        hidden = sum(b.numel() for b in plan.buffers())
        if hidden > 2 * sum(e.numel for e in file.entries.values()) + (1 << 24):
            raise ModelError(f"The config of {what} asks for buffers far larger than its weights.", "Refused.")
        module = make()
        fill(module, dict(file.tensors()))
    return module.eval()


def _compare(file: TensorFile, wanted: dict[str, Tensor], what: str) -> None:
    """ModelError unless the file holds these tensors exactly, and the machine has room for them."""
    missing, extra = sorted(set(wanted) - set(file.entries)), sorted(set(file.entries) - set(wanted))
    if missing or extra:
        said = [f"lacks {', '.join(missing[:3])}"] * bool(missing) + [f"has besides {', '.join(extra[:3])}"] * bool(
            extra
        )
        raise ModelError(f"{file.name!r} does not fit the config of {what}: it {' and '.join(said)}.")
    for name, tensor in wanted.items():
        entry = file.entries[name]
        if entry.shape != tuple(tensor.shape) or entry.dtype != tensor.dtype:
            raise ModelError(
                f"{file.name!r}: {name!r} is {entry.dtype} {entry.shape}; the config of {what} asks for {tensor.dtype} {tuple(tensor.shape)}."
            )
    check_room([file])


@torch.no_grad()
def fill(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Gives a module what `state_of` took from one like it."""
    take: Callable[[dict[str, Tensor]], None] | None = getattr(module, "take_portable", None)
    if take is not None:
        return take(state)
    own = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        own[name].copy_(tensor)


def _load_part(home: Path, name: str, config: dict) -> nn.Module:
    if (home / PARTS).is_symlink():
        raise ModelError(f"{PARTS!r} is a symbolic link.", "Refused: copy the files themselves into the model folder.")
    described, file_name, what = config["parts"][name], f"{PARTS}/{name}.safetensors", f"the part {name!r}"
    tied = frozenset(ours.partition(".")[2] for ours in config["ties"] if ours.partition(".")[0] == name)
    if described is not None:
        kind, options = described.get("kind"), described.get("options")
        if not isinstance(kind, str) or not isinstance(options, dict):
            raise ModelError(f"The description of {what} is not {{'kind': NAME, 'options': {{...}}}}.")
        return _load_module(home, file_name, lambda: nets.part(kind, options), what, tied)
    with TensorFile(home, file_name) as file:
        check_room([file])
        paths = [n.split(".") for n in file.entries]
        if any(not all(p) or {"training"} & set(p) for p in paths):
            raise ModelError(f"{file_name!r} names a tensor that no network can have.")
        try:
            return Stored(dict(file.tensors()))
        except (KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{file_name!r}: its names make no network: {error}") from None


def _tie(kept: Kept, ours: str, theirs: str) -> None:
    name, _, path = ours.partition(".")
    part = kept.parts[name]
    try:
        source = kept.encoder.get_parameter(theirs)
        if isinstance(part, Stored):
            part.place(path, source)
        else:
            if part.get_parameter(path).shape != source.shape:
                raise AttributeError(f"{ours!r} is of another shape")
            home, _, last = path.rpartition(".")
            part.get_submodule(home)._parameters[last] = source
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{CONFIG!r} ties {ours!r} to {theirs!r}, which cannot be: {error}") from None
    kept.ties[ours] = theirs
