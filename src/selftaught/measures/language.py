"""Figures of language models that do not depend on the tokenizer, and the ones that do.  NumPy in.

Legend: N documents, V vocabulary.  Nats are summed over ordinary tokens; marks such as begin and end count neither nats nor bytes.
"""

import math

import numpy as np


def bits_per_byte(nats: float | np.ndarray, size: float | np.ndarray) -> float | np.ndarray:
    """Bits that a model needs for each byte of UTF-8: `nats` summed over the text's tokens, `size` its bytes.

    Comparable across tokenizers, unlike perplexity: sum of nats / (ln 2 x bytes).
    """
    return nats / (math.log(2) * size)


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats a token): how many tokens a blind choice would have to be among; of one tokenizer and context alone."""
    return math.exp(nats / tokens) if tokens else float("nan")


def unigram_nats(tokens: np.ndarray, owner: np.ndarray, vocabulary: int) -> np.ndarray:
    """(T,) nats of each of T tokens under the frequencies of tokens in all other documents, one added to every count.

    `tokens` (T,) int64 ids in [0, vocabulary), `owner` (T,) int64 the number of the document that each stands in.  What knowing how
    common words are is worth: a language model has to beat it.  O(T log T).
    """
    whole = np.bincount(tokens, minlength=vocabulary)
    _, where, often = np.unique(owner * vocabulary + tokens, return_inverse=True, return_counts=True)
    length = np.bincount(owner)
    return -np.log((whole[tokens] - often[where] + 1) / (len(tokens) - length[owner] + vocabulary))
