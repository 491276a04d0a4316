"""Text: rows of token ids, from a tokenizer that is trained on the corpus itself or comes from a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .. import nets
from ..core import DataError, Draw, Encoder, Facts, ModelError, Ragged, RequestError, Target, Transform, View, random
from ..data.bad import Bad
from ..data.source import Source
from ..nets import files, vocabulary
from ..views.pairs import pairs
from ..views.text import BEGIN, MARKS, PAD, Excerpt, deleted, mask_tokens
from . import Guess, _packs, _tokenizer, _words
from ._sentences import sentences

SAMPLE_ROWS, SAMPLE_BYTES = 20_000, 1 << 22
"""What the tokenizer is trained on at most: rows, evenly spread, and bytes of UTF-8."""
WORD_BYTES = 1 << 28
"""What whole words are counted in at most: their vocabulary is the corpus's, not a sample's."""
CONTEXTS = (16, 128)
"""The shortest and longest context that is chosen without being asked for."""
BAG = 4096
"""Dimensions of the raw-input control at most."""


@dataclass(frozen=True)
class Text:
    """Token ids; a stored row is (L,) without marks.  Texts beyond `longest` tokens keep their beginning (see `notes`)."""

    name: ClassVar[str] = "text"
    offers: ClassVar[frozenset[str]] = frozenset(
        {"augment", "local", "delete", "target", "words", "vocabulary", "pairs"}
    )
    ragged: ClassVar[bool] = True
    shape: ClassVar[None] = None
    longest: ClassVar[int] = 1 << 16
    method: ClassVar[str] = "simclr"
    method_reason: ClassVar[str] = (
        "excerpts of one text belong together, which minutes on a processor teach; predicting hidden words takes hours"
    )

    tokenizer: str
    """tokenizer.json."""
    context: int = 128
    """Tokens that an encoder sees of a row at once, marks included."""

    def __reduce__(self):  # a copied tokenizer would forget that marks in texts are ordinary
        return type(self), (self.tokenizer, self.context)

    @cached_property
    def _loaded(self) -> tuple[Tokenizer, int]:
        return _tokenizer.load(self.tokenizer)

    @property
    def bpe(self) -> Tokenizer:
        """The tokenizer itself, whatever its kind."""
        return self._loaded[0]

    @property
    def specials(self) -> int:
        """Number of leading ids that stand for no text: the four marks, "unknown", a model's sentinels."""
        return self._loaded[1]

    @cached_property
    def vocabulary(self) -> int:
        """Number of ids, marks included."""
        return self.bpe.get_vocab_size()

    @cached_property
    def pieces(self) -> list[str]:
        """The tokens by their ids, as the tokenizer spells them ("Ġthe", "##ing", "▁a", "word")."""
        held = self.bpe.get_vocab()
        return sorted(held, key=held.__getitem__)

    @cached_property
    def starts(self) -> _words.Starts:
        """Which tokens begin a word."""
        return _words.Starts.of(self.pieces, self.specials, _tokenizer.style(self.tokenizer))

    @property
    def dtype(self) -> str:
        return "uint16" if self.vocabulary <= 1 << 16 else "uint32"

    @classmethod
    def sniff(cls, source: Source) -> Guess | None:
        """The text column, the one with the longest texts where there are several."""
        found = source.of_kind("text")
        if not found:
            return None
        head = np.arange(min(64, source.rows))
        lengths = {c: np.mean([len(t) for t in _texts(source, c, head)] or [0]) for c in found}
        column = max(found, key=lambda c: lengths[c])
        more = f", the longest of {', '.join(map(repr, found))}" if len(found) > 1 else ""
        return Guess(column, 0.8, f"column {column!r} holds texts of {lengths[column]:.0f} characters{more}")

    @classmethod
    def fit(
        cls, source: Source, column: str, *, size: int | None = None, memory: int | None = None, tokenizer: str | None = None
    ) -> Self:  # fmt: skip
        """Trains the tokenizer on a sample; `size` is the context in tokens, else it covers 95 % of the sample (all, where none is over
        twice as long; 128 where rows are lines of documents), up to 128.

        `tokenizer`: a kind of `_tokenizer.KINDS`, "bpe:8000" with a number of ids, or the folder of a model, whose tokenizer is taken;
        byte-level BPE without.  `memory` bytes bound the sample.  DataError where the column holds no text."""
        if size is not None and size < 4:
            raise RequestError(f"--size {size} is no context for text.", "Give at least 4 tokens; 128 is usual.")
        kind, ids = _tokenizer.parse(tokenizer or "bpe")
        most = WORD_BYTES if kind == "words" else SAMPLE_BYTES
        texts, held = _sample(source, column, min(most, memory // 8) if memory else most, kind == "words")
        if kind in _tokenizer.KINDS:
            guessed = vocabulary_for(held / len(texts) * source.rows)
            spelled = _tokenizer.train(texts, ids or (WORDS if kind == "words" else guessed), kind)
        else:
            spelled = _tokenizer.adopt(kind)
        fitted = cls(spelled, size or CONTEXTS[1])
        if size is None and "document" not in source.columns:
            lengths = [len(e) for e in fitted.bpe.encode_batch_fast(texts[:2000], add_special_tokens=False)]
            usual, most = np.quantile(lengths, 0.95), max(lengths)
            wanted = int(most if most <= 2 * usual else usual) + 2
            fitted = cls(fitted.tokenizer, min(CONTEXTS[1], max(CONTEXTS[0], 8 * -(-wanted // 8))))
        return fitted

    def describe(self) -> str:
        """One line in words."""
        return f"{_tokenizer.describe(self.tokenizer)} of {self.vocabulary} ids; {self.context} tokens at a time"

    def decode(self, payload: bytes | str) -> np.ndarray:
        """(L,) ids of one text.  Bad where it is empty, or no UTF-8."""
        return self._ids(self.bpe.encode(readable(payload)[: 16 * self.longest], add_special_tokens=False).ids)

    def decode_many(self, payloads: list) -> list[np.ndarray | Bad]:
        """`decode` of many at once, on all cores; a Bad in the place of a text that cannot be read."""
        texts: list[str | Bad] = []
        for payload in payloads:
            try:
                texts.append(readable(payload)[: 16 * self.longest])
            except Bad as bad:
                texts.append(bad)
        good = [t for t in texts if isinstance(t, str)]
        encoded = iter(self.bpe.encode_batch_fast(good, add_special_tokens=False))
        return [t if isinstance(t, Bad) else self._ids(next(encoded).ids) for t in texts]

    def _ids(self, ids: list[int]) -> np.ndarray:
        """Stored ids: a mark that a vocabulary of whole pieces finds in a text is unknown there, for it means something else."""
        row = np.array(ids[: self.longest], self.dtype)
        marks = row < len(MARKS)
        if not marks.any():
            return row
        return np.where(marks, len(MARKS), row).astype(self.dtype) if self.specials > len(MARKS) else row[~marks]

    def text_of(self, ids: np.ndarray | Tensor | list[int]) -> str:
        """The text of one row's ids; marks are left out."""
        return self.bpe.decode([int(i) for i in ids if int(i) >= self.specials])

    def words(self) -> list[str]:
        """The tokens by id as they stand in texts, marks included: the words, where the tokenizer has whole words."""
        return [self.bpe.decode([i]) if i >= self.specials else piece for i, piece in enumerate(self.pieces)]

    def packed(self, dataset, way: str, seed: int):
        """The rows of `dataset` as sequences of `context` tokens without padding (see _packs.Packed); `way`: isolated, bos_bestfit."""
        return _packs.Packed.of(dataset, way, seed)

    def notes(self, lengths: np.ndarray) -> list[str]:
        """Sentences to be said of stored rows of these `lengths` (N,)."""
        cut, beyond = int((lengths >= self.longest).sum()), int((lengths > self.context - 2).sum())
        said = [f"{cut} of {len(lengths)} texts reach {self.longest} tokens: only their beginning is kept"] * bool(cut)
        if beyond:
            said.append(
                f"{beyond} of {len(lengths)} texts are longer than the context of {self.context} tokens: training sees another "
                "excerpt each time, evaluation their beginning (--size changes the context)"
            )
        return said

    def collate(self, rows: np.ndarray | Ragged) -> View:
        """ids (B, L) int64, padded to the longest row, and valid (B, L) bool; no marks yet: views put them."""
        if isinstance(rows, Ragged):
            ids, valid = Ragged(rows.values.long(), rows.offsets).pad(PAD)
        else:
            ids = torch.from_numpy(rows.astype(np.int64))
            valid = torch.ones_like(ids, dtype=torch.bool)
        return View(self.name, parts={"ids": ids, "valid": valid})

    def begins(self, view: View) -> Tensor:
        """(B, L) bool: where a word begins; marks and padding are words of their own."""
        return self.starts(view["ids"])

    def plain(self, facts: Facts | None = None) -> Transform:
        """The beginning of each text, between marks, as an exported tokenizer cuts it."""
        return Excerpt(self.context, head=True, closed=True)

    def mild(self, facts: Facts | None = None) -> Transform:
        """As much as the context holds, from anywhere in longer texts."""
        return Excerpt(self.context)

    def augment(self, facts: Facts | None = None) -> Transform:
        """Half to all of a text, with some tokens deleted and some neighbours exchanged."""
        return Excerpt(self.context, (0.5, 1.0), delete=0.1, swap=0.1)

    def local(self, facts: Facts | None = None) -> Transform:
        """A fifth to a half of a text."""
        return Excerpt(max(8, self.context // 2), (0.2, 0.5), delete=0.1, swap=0.1)

    def corrupt(self, view: View, chosen: Tensor, grid: tuple[int, ...] | None, draw: Draw) -> View:
        """`chosen` (B, L) tokens replaced 80/10/10 by the mask, a random token, themselves; marks stay."""
        return view.with_parts(ids=mask_tokens(view["ids"], chosen, self.vocabulary, draw, self.specials))

    def delete(self, view: View, share: float, draw: Draw) -> View:
        """The rows without about `share` of their tokens, closed up, between their marks."""
        ids, valid = deleted(view["ids"], view["valid"], share, draw, self.specials)
        return View(self.name, view.role, {"ids": ids, "valid": valid})

    def target(self, view: View, grid: tuple[int, ...] | None) -> Target:
        """The ids themselves, wherever there are any; what is unknown cannot be predicted, and that a text begins need not be."""
        ids = view["ids"]
        able = view["valid"] & ((ids < len(MARKS)) | (ids >= self.specials)) & (ids != BEGIN)
        return Target("class", ids, able, classes=self.vocabulary)

    def untarget(self, values: Tensor, view: View, grid: tuple[int, ...] | None) -> View:
        """The inverse of `target`: the view with these ids (B, L) in the place of its own."""
        return view.with_parts(ids=values)

    def pairs(self, view: View, other: View, draw: Draw, following: View | None = None) -> View:
        """Two texts in one row, told apart, of which the second follows the first in half of the rows (views.pairs)."""
        return pairs(view, other, self.context, draw, following=following)

    def encoder(self, facts: Facts, needs: frozenset[str], name: str | None = None, **options) -> Encoder:
        """A text transformer: for less than ten minutes on a CPU, for longer, or for a GPU; or the encoder `name`."""
        kind, given = nets.parse(name) if name else ("text-transformer", {})
        if kind in nets.LOADED:
            built = nets.build(kind, **given, **options)
        else:
            sizes: dict = {}
            if name is None:
                short = facts.minutes is not None and facts.minutes < 10
                width, depth, heads = (128, 3, 2) if short else (192, 4, 3)
                width, depth, heads = (384, 6, 6) if facts.device != "cpu" else (width, depth, heads)
                sizes = {"width": width, "depth": depth, "heads": heads}
            if kind == "text-transformer":
                sizes |= {"vocabulary": self.vocabulary, "context": self.context, "specials": self.specials}
            elif kind == "word-vectors":
                sizes |= {"vocabulary": self.vocabulary, "specials": self.specials}
            built = nets.build(kind, **{**sizes, **given, **options})
        if built.modality != self.name:
            raise RequestError(
                f"The encoder {name!r} takes {built.modality}, not text.",
                "Leave --encoder out, or take text-transformer.",
            )
        self.check(built, name)
        return built

    def check(self, encoder: Encoder, name: str | None = None) -> None:
        """RequestError where `encoder` reads fewer ids than there are here (a model may hold more rows than its tokenizer has ids), or fewer at a time."""
        ids, context = getattr(encoder, "vocabulary", None), getattr(encoder, "context", None)
        if ids is not None and ids < self.vocabulary:
            raise RequestError(
                f"The encoder {name or encoder.kind!r} knows {ids} ids; this tokenizer has {self.vocabulary}.",
                "Take the encoder's own tokenizer: --tokenizer FOLDER.",
            )
        if context is not None and context < self.context:
            raise RequestError(
                f"The encoder {name or encoder.kind!r} takes {context} tokens at a time; rows are read {self.context} at a time.",
                f"Give --size {context}.",
            )

    def raw(self, view: View) -> Tensor:
        """(B, D) float32: log(1 + count) of each token, L2-normalised; D is the vocabulary, hashed to 4096 where it is larger."""
        ids, counted = view["ids"], view["valid"] & (view["ids"] >= self.specials)
        if self.vocabulary > BAG:
            ids = random.bits(random.key("bag of tokens"), ids) % BAG
        bag = torch.zeros(len(ids), min(BAG, self.vocabulary), device=ids.device)
        bag = bag.scatter_add(1, ids, counted.float()).log1p()
        return bag / bag.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def config(self) -> dict:
        """Plain data that says which modality this is; the tokenizer as its hash."""
        digest = hashlib.sha256(self.tokenizer.encode()).hexdigest()
        return {"name": self.name, "context": self.context, "vocabulary": self.vocabulary, "tokenizer": digest}

    def save(self, folder: str | Path) -> None:
        """Writes preprocessor.json and tokenizer.json, which transformers reads too (with split_special_tokens)."""
        Path(folder, "tokenizer.json").write_text(self.tokenizer, "utf-8")
        Path(folder, "preprocessor.json").write_text(json.dumps(self.config(), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote; ModelError where the files are missing, broken or of two minds."""
        held = files.read_json(Path(folder), "preprocessor.json")
        try:
            text = files.read_bytes(Path(folder), "tokenizer.json", limit=vocabulary.FILE_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(
                f"tokenizer.json in {str(folder)!r} is no UTF-8: {error.reason}.", "Save it again."
            ) from None
        context = held.get("context")
        if type(context) is not int or not 4 <= context <= cls.longest:
            raise ModelError(f"preprocessor.json in {str(folder)!r} has no context but {context!r}.", "Save it again.")
        found = cls(text, context)
        if found.config() != held:
            raise ModelError(
                f"preprocessor.json and tokenizer.json in {str(folder)!r} do not belong together.",
                "Save the encoder again.",
            )
        return found

    @classmethod
    def toy(cls, rows: int, seed: int) -> tuple[list[str], dict[str, np.ndarray]]:
        """Texts of a small grammar; factors topic, tense, sentiment, number (int64)."""
        return sentences(rows, seed)


WORDS = 1 << 18
"""Whole words that are told apart at most."""


def _sample(source: Source, column: str, budget: int, whole: bool) -> tuple[list[str], int]:
    """(texts of rows that lie evenly spread, their bytes of UTF-8): about `budget` bytes, all rows as far as they go where `whole`."""
    head = [len(t.encode()) for t in _texts(source, column, np.arange(min(64, source.rows)))]
    count = min(source.rows, SAMPLE_ROWS, max(256, int(budget / np.mean(head or [1]))))
    count = source.rows if whole else count
    texts, held = [], 0
    for text in _texts(source, column, np.unique(np.linspace(0, source.rows - 1, count).astype(np.int64))):
        texts.append(text[:budget])
        held += len(text.encode())
        if held > 2 * budget:
            break
    if not texts:
        raise DataError(f"The column {column!r} holds no text that can be read.", "Name another with --column.")
    return texts, held


def vocabulary_for(size: float) -> int:
    """Ids for a corpus of `size` bytes: 2,048 below 1 MB, twice as many for every ten times more, 32,768 at most.

    Small vocabularies suit small corpora: each token is seen often, and a head's cost grows with their number."""
    steps = int(np.clip(np.ceil(np.log10(max(size, 1) / 1e6)), 0, 4))
    return 2048 << steps


def readable(payload) -> str:
    """The payload as text; Bad where it is none: not UTF-8, lone surrogates, nothing but space."""
    try:
        if isinstance(payload, bytes):
            payload = payload.decode("utf-8")
        elif isinstance(payload, str):
            payload.encode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise Bad(f"not UTF-8: {error.reason} at {error.start}") from None
    if not isinstance(payload, str):
        raise Bad(f"not text: a {type(payload).__name__}")
    if not payload.strip():
        raise Bad("empty text")
    return payload


def _texts(source: Source, column: str, index: np.ndarray) -> Iterator[str]:
    """The readable ones of the rows `index`."""
    for payload in source.payloads(column, index):
        try:
            if not isinstance(payload, Bad):
                yield readable(payload)
        except Bad:
            continue
