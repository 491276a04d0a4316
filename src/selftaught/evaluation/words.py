"""`words`: the word vectors of a run, of a saved encoder or of another program's file."""

from __future__ import annotations

from pathlib import Path

from .. import modalities
from ..core import ModelError
from ..nets import store
from ..nets.word_vectors import WordVectors
from ..nets.words import Words


def words(source: str | Path) -> Words:
    """The words of a run or encoder folder, or of a file in word2vec's format (.txt, .vec, .bin).

    `.near(word, k)`, `.analogy(a, b, c, k)`, `.vector(word)`, `.write(path)`.  ModelError where there are no word vectors."""
    path = Path(source)
    if path.is_file():
        return Words.read(path)
    folder = store.find(path)
    encoder = store.load_encoder(folder)
    if not isinstance(encoder, WordVectors):
        raise ModelError(
            f"{str(source)!r} holds no word vectors but {encoder.kind}.",
            "Fit them: selftaught pretrain DATA --method skip-gram (or cbow, fasttext).",
        )
    names = modalities.load(folder).words()
    if len(names) != encoder.vocabulary:
        raise ModelError(f"{str(source)!r}: {len(names)} words for {encoder.vocabulary} vectors.", "Save it again.")
    return Words.of(encoder, names)
