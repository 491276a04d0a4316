"""Words with their vectors: nearest words, analogies, words that were never seen, and files of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from ..core import RequestError
from . import word_files
from .subwords import Subwords
from .word_vectors import WordVectors


def as_encoder(source: str) -> WordVectors:
    """Refuses: a file of vectors knows words by their spelling, and an encoder by the ids of a tokenizer."""
    raise RequestError(
        f"word2vec:{source} is no encoder by itself: its vectors belong to spelled words, not to these data's ids.",
        f"Begin word vectors of these data with it: --method skip-gram --encoder word2vec:{source} (or cbow, fasttext).",
    )


class Words:
    """`names` and their `vectors` (N, D) float32; `subwords` and `pieces` (buckets, D) make vectors of words that are not among them."""

    def __init__(
        self, names: Sequence[str], vectors: np.ndarray, *, subwords: Subwords | None = None, pieces: np.ndarray | None = None
    ):  # fmt: skip
        if len(names) != len(vectors) or (subwords is None) != (pieces is None):
            raise ValueError(f"{len(names)} names for {len(vectors)} vectors")
        self.names, self.vectors = list(names), np.asarray(vectors, np.float32)
        self.subwords, self.pieces = subwords, pieces
        self._place = {name: i for i, name in enumerate(self.names)}
        self._unit = self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    @classmethod
    def of(cls, encoder: WordVectors, names: Sequence[str]) -> Self:
        """The words that `encoder` has learned; `names` (vocabulary,) by id."""
        known = (encoder.get_buffer("frequency") > 0).numpy().copy()
        known[: encoder.specials] = False
        vectors = encoder.embedding.weight.detach().float().numpy()[known]
        found = [name for name, there in zip(names, known, strict=True) if there]
        if not encoder.buckets:
            return cls(found, vectors)
        grams = Subwords(encoder.buckets, encoder.shortest, encoder.longest)
        return cls(found, vectors, subwords=grams, pieces=encoder.get_buffer("subwords").float().numpy())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The words of a file in word2vec's text or binary format; ModelError where it is broken (see word_files.read)."""
        return cls(*word_files.read(path))

    def write(self, path: str | Path) -> None:
        """All words into a file, word2vec's binary where it ends in .bin, else its text (.txt, .vec): gensim reads both."""
        word_files.write(path, self.names, self.vectors)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, word: str) -> bool:
        return word in self._place

    def vector(self, word: str) -> np.ndarray:
        """(D,) of a word; of one that was never seen the mean of its subwords, where there are any.  RequestError else."""
        place = self._place.get(word, self._place.get(word.lower()))
        if place is not None:
            return self.vectors[place]
        if self.subwords is not None and self.pieces is not None and len(buckets := self.subwords.of(word.lower())):
            found = self.pieces[buckets].mean(0)
            if found.any():
                return found
        if self.subwords is not None:
            raise RequestError(
                f"{word!r} is none of the {len(self):,} words, and none of its pieces occurs in one of them.",
                "Nothing of it was seen in training: ask for another word.",
            )
        raise RequestError(
            f"{word!r} is none of the {len(self):,} words.",
            "It occurred too rarely, or not at all; --method fasttext has vectors for words that were never seen.",
        )

    def near(self, word: str | np.ndarray, k: int = 10, *, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """The `k` words of the highest cosine with a word or vector, best first; the word itself and `without` are left out."""
        if k < 1:
            raise RequestError(f"k = {k} is no number of words.", "Give at least 1.")
        vector = self.vector(word) if isinstance(word, str) else np.asarray(word, np.float32)
        cosines = self._unit @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        for name in [*without, *([word] if isinstance(word, str) else [])]:
            if (place := self._place.get(name, self._place.get(name.lower()))) is not None:
                cosines[place] = -np.inf
        best = np.argsort(-cosines, kind="stable")[:k]
        return [(self.names[i], float(cosines[i])) for i in best if np.isfinite(cosines[i])]

    def analogy(self, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
        """What is to `c` as `b` is to `a`: the words nearest to b - a + c, of unit vectors (Mikolov, Yih & Zweig 2013), without these three."""
        unit = [v / max(float(np.linalg.norm(v)), 1e-12) for v in map(self.vector, (a, b, c))]
        return self.near(unit[1] - unit[0] + unit[2], k, without=(a, b, c))
