"""The byte-level BPE tokenizer (Sennrich et al. 2016; bytes: Radford et al. 2019) that text is packed with.

Every text has ids and comes back from them unchanged; words and punctuation never share a token, so word boundaries survive
(`encoding.word_ids`).  The first ids are the marks of views.text.  A mark that is spelled out in a text is ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ..core import ModelError
from ..views.text import BEGIN, END, MARKS

LARGEST = 1 << 17
"""Ids of the largest tokenizer that is loaded from a folder."""


def _empty() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    begin, end = MARKS[BEGIN], MARKS[END]
    tokenizer.post_processor = processors.Sequence(  # type: ignore[assignment]
        [
            processors.ByteLevel(trim_offsets=True),  # without it a word's offsets would begin at the space before it
            processors.TemplateProcessing(
                single=f"{begin} $A {end}",
                pair=f"{begin} $A {end} $B {end}",
                special_tokens=[(begin, BEGIN), (end, END)],
            ),
        ]
    )
    return tokenizer


def train(texts: Iterable[str], vocabulary: int) -> str:
    """tokenizer.json of at most `vocabulary` ids, learned from `texts`: the same for the same texts, whatever the threads.

    Pairs that occur once are not merged, so that small corpora get small vocabularies.
    """
    tokenizer = _empty()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=list(MARKS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def load(text: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json, which nobody vouches for.  ModelError where it is not one that `train` wrote."""
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
    return tokenizer


def _check(held: dict) -> None:
    own = json.loads(_empty().to_str())
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"):
        if held[part] != own[part]:
            raise ValueError(f"its {part} is another one")
    vocabulary = held["model"]["vocab"]
    if held["model"]["type"] != "BPE" or len(vocabulary) > LARGEST:
        raise ValueError(f"it holds {len(vocabulary)} ids of type {held['model']['type']!r}")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("its ids are not 0, 1, 2, ...")
    if [(t["id"], t["content"]) for t in held["added_tokens"]] != list(enumerate(MARKS)):
        raise ValueError(f"its first ids are not {', '.join(MARKS)}")
    if any(vocabulary.get(mark) != number for number, mark in enumerate(MARKS)):
        raise ValueError("its marks are no ids of the vocabulary")
