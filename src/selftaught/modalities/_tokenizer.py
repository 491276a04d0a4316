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
from ..nets import vocabulary
from ..nets.vocabulary import BEGIN, END, LARGEST, MARKS

KINDS = ("bpe", "wordpiece", "unigram", "bytes", "words")
UNKNOWN = "[UNK]"
WORD = r"\w+(?:['’]\w+)*"
"""What "words" takes for a word."""
RARE = 5
"""A word that occurs less often than this is unknown to "words"."""


def _template() -> processors.TemplateProcessing:
    begin, end = MARKS[BEGIN], MARKS[END]
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
                _template(),
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
    tokenizer.post_processor = _template()  # type: ignore[assignment]
    return tokenizer


def train(texts: Iterable[str], ids: int, kind: str = "bpe") -> str:
    """tokenizer.json of `kind` with at most `ids` ids, learned from `texts`: the same for the same texts, whatever the threads.

    Byte pairs that occur once are not merged, so that small corpora get small vocabularies; words that occur less than five times are
    unknown.
    """
    tokenizer, unknown = _empty(kind), [*MARKS, UNKNOWN]
    if kind in ("bpe", "bytes"):
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        size = ids if kind == "bpe" else len(MARKS) + len(alphabet)
        trainer: Any = trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, special_tokens=list(MARKS), show_progress=False, initial_alphabet=alphabet
        )
    elif kind == "wordpiece":
        trainer = trainers.WordPieceTrainer(
            vocab_size=ids, min_frequency=2, special_tokens=unknown, show_progress=False
        )
    elif kind == "unigram":
        trainer = trainers.UnigramTrainer(
            vocab_size=ids, special_tokens=unknown, unk_token=UNKNOWN, show_progress=False
        )
    else:
        trainer = trainers.WordLevelTrainer(
            vocab_size=ids, min_frequency=RARE, special_tokens=unknown, show_progress=False
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
    known = vocabulary.pieces_of(held)
    if len(known) > LARGEST:
        raise ValueError(f"it holds {len(known)} ids")
    if sorted(known.values()) != list(range(len(known))):
        raise ValueError("its ids are not 0, 1, 2, ...")
    listed = [(t["id"], t["content"]) for t in held["added_tokens"]]
    if len(listed) < len(MARKS) or [number for number, _ in listed] != list(range(len(listed))):
        raise ValueError(f"its first ids are not {', '.join(MARKS)}")
    if any(known.get(mark) != number for number, mark in listed):
        raise ValueError("its marks are no ids of the vocabulary")
    model = held["model"]
    unknown = model.get("unk_id") if model["type"] == "Unigram" else known.get(model.get("unk_token") or "")
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


def adopt(folder: str | Path) -> str:
    """The tokenizer of a model's folder, its ids in this project's order (see nets.vocabulary.adopt)."""
    return json.dumps(vocabulary.adopt(folder), ensure_ascii=False)


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
