"""The vocabulary of a model's tokenizer.json, which nobody vouches for, brought into this project's order of ids.

First the marks (padding, begin, end, mask), then the model's other special tokens and "unknown", then ordinary pieces in the model's own order: then
every text encoder here, its own or borrowed, means the same by the first ids.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..core import ModelError
from . import files

PAD, BEGIN, END, MASK = range(4)
MARKS = ("[PAD]", "[BOS]", "[EOS]", "[MASK]")
"""The first ids of every tokenizer of this project, in this order; a model's own may have other names."""
ROLES = (("pad_token",), ("bos_token", "cls_token"), ("eos_token", "sep_token"), ("mask_token",))
"""What a model's folder calls the marks, in their order; the first that it names is taken."""
LARGEST = 1 << 20
"""Ids of the largest tokenizer that is loaded from a folder."""
FILE_BYTES = 1 << 27


def adopt(folder: str | Path) -> dict:
    """tokenizer.json of a folder with marks and other special tokens as its first ids, and marks around a text.

    Roles are read from tokenizer_config.json (special_tokens_map.json without one); a mark that the model does not have is added.  ModelError where
    there is no tokenizer.json or one that cannot be taken.
    """
    held, said = _read(Path(folder))
    try:
        return _renumbered(held, said)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise _refused(folder, error) from None


def native(folder: str | Path) -> list[int]:
    """For every id of `adopt(folder)` the model's own; -1 for marks that the model does not have."""
    held, said = _read(Path(folder))
    try:
        own = {**pieces_of(held), **{t["content"]: int(t["id"]) for t in held.get("added_tokens", [])}}
        pieces = pieces_of(_renumbered(held, said))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise _refused(folder, error) from None
    return [own.get(piece, -1) for piece in sorted(pieces, key=pieces.__getitem__)]


def specials(folder: str | Path) -> int:
    """The number of first ids of `adopt(folder)` that stand for no text."""
    return len(adopt(folder)["added_tokens"])


def pieces_of(held: dict) -> dict[str, int]:
    """{piece: id} of a tokenizer.json that was read as JSON."""
    model = held["model"]
    if model["type"] not in ("BPE", "WordPiece", "WordLevel", "Unigram"):
        raise ValueError(f"it is of type {model['type']!r}")
    found = model["vocab"]
    return {piece: number for number, (piece, _) in enumerate(found)} if model["type"] == "Unigram" else dict(found)


def _read(folder: Path) -> tuple[dict, dict]:
    if not os.path.lexists(folder / "tokenizer.json"):
        raise ModelError(
            f"{str(folder)!r} holds no tokenizer.json.",
            "Save its tokenizer with transformers (a fast one): save_pretrained.",
        )
    held = files.read_json(folder, "tokenizer.json", limit=FILE_BYTES)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if os.path.lexists(folder / name):
            return held, files.read_json(folder, name)
    return held, {}


def _refused(folder: str | Path, error: Exception) -> ModelError:
    return ModelError(
        f"tokenizer.json in {str(folder)!r} cannot be taken: {str(error)[:200] or type(error).__name__}.",
        "BPE, WordPiece, WordLevel and Unigram tokenizers of the tokenizers library can.",
    )


def _name(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _first(held: dict, said: dict) -> tuple[list[str], list[str]]:
    """(marks, other special tokens) of a model's tokenizer by name; a mark that it lacks has this project's name."""
    marks: list[str] = []
    for number, keys in enumerate(ROLES):
        named = next((n for k in keys if (n := _name(said.get(k))) is not None), MARKS[number])
        marks.append(named if named not in marks else MARKS[number])  # one token in two roles (GPT-2) keeps the first
    special = [t["content"] for t in held.get("added_tokens", []) if t.get("special") and t["content"] not in marks]
    unknown = _name(held["model"].get("unk_token")) or _name(said.get("unk_token"))
    if unknown and unknown in pieces_of(held) and unknown not in [*marks, *special]:
        special.append(unknown)
    return marks, special


def _renumbered(held: dict, said: dict) -> dict:
    vocabulary = pieces_of(held)
    extra = [t for t in held.get("added_tokens", []) if t["content"] not in vocabulary]
    for token in sorted(extra, key=lambda t: t["id"]):
        vocabulary[token["content"]] = token["id"]
    if len(vocabulary) > LARGEST:
        raise ValueError(f"it holds {len(vocabulary)} ids")
    marks, special = _first(held, said)
    first = [*marks, *special]
    rest = sorted(vocabulary.keys() - set(first), key=vocabulary.__getitem__)
    numbers = {piece: number for number, piece in enumerate([*first, *rest])}
    model = dict(held["model"])
    if model["type"] == "Unigram":
        scores = dict(held["model"]["vocab"])
        lowest = min(scores.values(), default=0.0)
        model["vocab"] = [[p, scores.get(p, lowest - 10)] for p in numbers]
        unknown = held["model"].get("unk_id")
        model["unk_id"] = numbers[held["model"]["vocab"][unknown][0]] if unknown is not None else None
    else:
        model["vocab"] = numbers
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": numbers[p], "content": p, **plain} for p in first]
    return {
        **{k: held.get(k) for k in ("version", "normalizer", "pre_tokenizer", "decoder")},
        "truncation": None, "padding": None, "added_tokens": added, "post_processor": between(marks[BEGIN], marks[END]),
        "model": model,
    }  # fmt: skip


def between(begin: str, end: str) -> dict:
    """The post-processor that puts marks around a text, and an end mark between two."""
    mark = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}  # noqa: E731
    text = lambda name: {"Sequence": {"id": name, "type_id": 0}}  # noqa: E731
    return {
        "type": "TemplateProcessing",
        "single": [mark(begin), text("A"), mark(end)],
        "pair": [mark(begin), text("A"), mark(end), text("B"), mark(end)],
        "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for n, i in ((begin, BEGIN), (end, END))},
    }
