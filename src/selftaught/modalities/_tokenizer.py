"""Tokenizers that text is packed with: trained on the corpus, or taken over from a model's folder.

Whatever the kind, the first ids are the marks of views.text (padding, begin, end, mask), then come the other ids that stand for no text
("unknown", a model's sentinels), then ordinary ones; and a mark that is spelled out in a text is ordinary text.  Kinds (Sennrich et al.
2016; Radford et al. 2019; Schuster & Nakajima 2012; Kudo 2018):

bpe         byte-level byte-pair encoding: every text has ids and comes back from them unchanged; words and punctuation never share a token
bytes       one id a byte: no vocabulary to learn, four times as many tokens
wordpiece   pieces of words, "##" before those that go on; white space is lost, letters that the sample did not hold are unknown
unigram     pieces by likelihood, as sentencepiece makes them; letters that the sample did not hold are unknown
words       whole words in lower case, without punctuation, the most frequent first: for word vectors
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..core import ModelError, RequestError
from ..nets import files
from ..views.text import BEGIN, END, MARKS

KINDS = ("bpe", "wordpiece", "unigram", "bytes", "words")
UNKNOWN = "[UNK]"
LARGEST = 1 << 20
"""Ids of the largest tokenizer that is loaded from a folder."""
FILE_BYTES = 1 << 27
WORD = r"\w+(?:['’]\w+)*"
"""What "words" takes for a word."""
ROLES = (("pad_token",), ("bos_token", "cls_token"), ("eos_token", "sep_token"), ("mask_token",))
"""What a model's folder calls the marks, in their order; the first that it names is taken."""
RARE = 5
"""A word that occurs less often than this is unknown to "words"."""


def _template(
    tokenizer: Tokenizer, first: tuple[str, str] = (MARKS[BEGIN], MARKS[END])
) -> processors.TemplateProcessing:
    begin, end = first
    return processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=f"{begin} $A {end} $B {end}", special_tokens=[(begin, BEGIN), (end, END)]
    )


def _empty(kind: str) -> Tokenizer:
    """A tokenizer of `kind` without vocabulary."""
    if kind in ("bpe", "bytes"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        tokenizer.post_processor = processors.Sequence(  # type: ignore[assignment]
            [
                processors.ByteLevel(trim_offsets=True),
                _template(tokenizer),
            ]  # untrimmed, a word would begin at the space before it
        )
        return tokenizer
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))  # type: ignore[call-arg]
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)  # type: ignore[assignment]
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
        tokenizer.decoder = decoders.WordPiece()  # type: ignore[assignment]
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
        tokenizer.decoder = decoders.Metaspace()  # type: ignore[assignment]
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))  # type: ignore[call-arg]
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # type: ignore[assignment]
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)  # type: ignore[assignment]
    tokenizer.post_processor = _template(tokenizer)  # type: ignore[assignment]
    return tokenizer


def train(texts: Iterable[str], vocabulary: int, kind: str = "bpe") -> str:
    """tokenizer.json of `kind` with at most `vocabulary` ids, learned from `texts`: the same for the same texts, whatever the threads.

    Byte pairs that occur once are not merged, so that small corpora get small vocabularies; words that occur less than five times are
    unknown.
    """
    tokenizer, unknown = _empty(kind), [*MARKS, UNKNOWN]
    if kind in ("bpe", "bytes"):
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        size = vocabulary if kind == "bpe" else len(MARKS) + len(alphabet)
        trainer: Any = trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, special_tokens=list(MARKS), show_progress=False, initial_alphabet=alphabet
        )
    elif kind == "wordpiece":
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocabulary, min_frequency=2, special_tokens=unknown, show_progress=False
        )
    elif kind == "unigram":
        trainer = trainers.UnigramTrainer(
            vocab_size=vocabulary, special_tokens=unknown, unk_token=UNKNOWN, show_progress=False
        )
    else:
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocabulary, min_frequency=RARE, special_tokens=unknown, show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def load(text: str) -> tuple[Tokenizer, int]:
    """(tokenizer, number of leading ids that stand for no text) of a tokenizer.json, which nobody vouches for.

    ModelError where it is not one that `train` or `adopt` wrote.
    """
    try:
        held = json.loads(text)
        _check(held)
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exceptions
        raise ModelError(
            f"tokenizer.json is broken or was not written by this program: {' '.join(str(error).split())[:200]}.",
            "Save the encoder again, or take the folder as it was saved.",
        ) from None
    tokenizer.encode_special_tokens = True  # "[MASK]" in a text is six characters; to_str does not keep this setting
    return tokenizer, len(held["added_tokens"])


def _check(held: dict) -> None:
    if held["truncation"] is not None or held["padding"] is not None:
        raise ValueError("it cuts or pads by itself")
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        _safe(held[name])
    vocabulary = _vocabulary(held)
    if len(vocabulary) > LARGEST:
        raise ValueError(f"it holds {len(vocabulary)} ids")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("its ids are not 0, 1, 2, ...")
    listed = [(t["id"], t["content"]) for t in held["added_tokens"]]
    if len(listed) < len(MARKS) or [number for number, _ in listed] != list(range(len(listed))):
        raise ValueError(f"its first ids are not {', '.join(MARKS)}")
    if any(vocabulary.get(mark) != number for number, mark in listed):
        raise ValueError("its marks are no ids of the vocabulary")
    model = held["model"]
    unknown = model.get("unk_id") if model["type"] == "Unigram" else vocabulary.get(model.get("unk_token") or "")
    if unknown is not None and not len(MARKS) <= unknown < len(listed):
        raise ValueError(f"what is unknown would become the id {unknown}, which means something else")


def _safe(part: object) -> None:
    """Refuses patterns whose matching can take exponential time: repetitions of what repeats."""
    if isinstance(part, dict):
        pattern = part.get("Regex")
        if pattern is not None and pattern != WORD and (len(pattern) > 1000 or re.search(r"\)[+*{]", pattern)):
            raise ValueError(f"its pattern {pattern[:80]!r} repeats what repeats, which can take for ever")
        for value in part.values():
            _safe(value)
    elif isinstance(part, list):
        for value in part:
            _safe(value)


def _vocabulary(held: dict) -> dict[str, int]:
    """{piece: id} of a tokenizer.json that was read as JSON."""
    model = held["model"]
    if model["type"] not in ("BPE", "WordPiece", "WordLevel", "Unigram"):
        raise ValueError(f"it is of type {model['type']!r}")
    found = model["vocab"]
    return {piece: number for number, (piece, _) in enumerate(found)} if model["type"] == "Unigram" else dict(found)


def adopt(folder: str | Path) -> str:
    """The tokenizer of a model's folder, its ids in this project's order: marks first, then its other special tokens, then the rest.

    Roles are read from tokenizer_config.json; a mark that the model does not have is added (`native` says what becomes of its id).
    ModelError where the folder holds no tokenizer.json or one that cannot be taken.
    """
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{str(folder)!r} holds no tokenizer.json.",
            "Save its tokenizer with transformers (a fast one): save_pretrained.",
        )
    held = files.read_json(folder, "tokenizer.json", limit=FILE_BYTES)
    said = files.read_json(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    try:
        return json.dumps(_renumbered(held, said), ensure_ascii=False)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"tokenizer.json in {str(folder)!r} cannot be taken: {str(error)[:200] or type(error).__name__}.",
            "BPE, WordPiece, WordLevel and Unigram tokenizers of the tokenizers library can.",
        ) from None


def _name(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def order(held: dict, said: dict) -> tuple[list[str], list[str]]:
    """(marks, other special tokens) of a model's tokenizer by name; a mark that it lacks has this project's name."""
    marks = []
    for number, keys in enumerate(ROLES):
        named = next((n for k in keys if (n := _name(said.get(k))) is not None), MARKS[number])
        marks.append(named if named not in marks else MARKS[number])  # one token in two roles (GPT-2) keeps the first
    special = [t["content"] for t in held.get("added_tokens", []) if t.get("special") and t["content"] not in marks]
    unknown = _name(held["model"].get("unk_token")) or _name(said.get("unk_token"))
    if unknown and unknown in _vocabulary(held) and unknown not in [*marks, *special]:
        special.append(unknown)
    return marks, special


def _renumbered(held: dict, said: dict) -> dict:
    """The tokenizer.json with marks and other special tokens as its first ids."""
    vocabulary = _vocabulary(held)
    extra = [t for t in held.get("added_tokens", []) if t["content"] not in vocabulary]
    for token in sorted(extra, key=lambda t: t["id"]):
        vocabulary[token["content"]] = token["id"]
    if len(vocabulary) > LARGEST:
        raise ValueError(f"it holds {len(vocabulary)} ids")
    marks, special = order(held, said)
    first = [*marks, *special]
    rest = sorted((p for p in vocabulary if p not in set(first)), key=lambda p: vocabulary[p])
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
    template = json.loads(_template_text(marks))
    return {
        **{k: held.get(k) for k in ("version", "normalizer", "pre_tokenizer", "decoder")},
        "truncation": None, "padding": None, "added_tokens": added, "post_processor": template, "model": model,
    }  # fmt: skip


def _template_text(marks: list[str]) -> str:
    """The post-processor that puts marks around a text, as JSON."""
    tokenizer = _empty("words")
    tokenizer.post_processor = _template(tokenizer, (marks[BEGIN], marks[END]))  # type: ignore[assignment]
    return json.dumps(json.loads(tokenizer.to_str())["post_processor"])


def native(folder: str | Path) -> list[int]:
    """For every id of `adopt(folder)` the model's own; -1 for marks that the model does not have."""
    folder = Path(folder)
    held = files.read_json(folder, "tokenizer.json", limit=FILE_BYTES)
    said = files.read_json(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    own = {**_vocabulary(held), **{t["content"]: t["id"] for t in held.get("added_tokens", [])}}
    pieces = _vocabulary(_renumbered(held, said))
    return [own.get(piece, -1) for piece in sorted(pieces, key=pieces.__getitem__)]


def parse(spec: str) -> tuple[str, int | None]:
    """`--tokenizer` -> (kind or folder, number of ids or None): bpe, bpe:8000, a model's folder."""
    kind, colon, size = spec.partition(":")
    if kind in KINDS and (not colon or (size.isdigit() and 300 <= int(size) <= LARGEST)):
        return kind, int(size) if colon else None
    if Path(spec).is_dir():
        return spec, None
    raise RequestError(
        f"--tokenizer {spec!r} is none.",
        f"Accepted: {', '.join(KINDS)}, with a number of ids behind it if wanted (bpe:8000), or the folder of a model.",
    )


def describe(text: str) -> str:
    """The kind of a tokenizer.json in words."""
    held = json.loads(text)
    kind, before = held["model"]["type"], (held.get("pre_tokenizer") or {}).get("type")
    if kind == "BPE" and before == "ByteLevel":
        return "byte-level BPE" if held["model"]["merges"] else "bytes"
    return {"BPE": "BPE", "WordPiece": "WordPiece", "WordLevel": "whole words", "Unigram": "unigram pieces"}[kind]


def style(text: str) -> str:
    """How a tokenizer.json spells where words begin (see _words.Starts)."""
    held = json.loads(text)
    kind = held["model"]["type"]
    if kind in ("WordPiece", "WordLevel"):
        return "##" if kind == "WordPiece" else "words"
    return "bytes" if "ByteLevel" in json.dumps(held.get("pre_tokenizer")) else "▁"
