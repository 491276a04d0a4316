"""What is scored without understanding anything: the rows that stand beside a model for parts of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..data.tags import to_iob2
from ..measures.overlap import NEAR, Shared, words_of
from ..measures.tags import OUTSIDE, spans


class BlindTags:
    """Guesses from training sentences without an encoder.

    "outside everywhere" (of plain tags: the most frequent one everywhere); "most frequent tag of each known word"; for spans "known spans": the longest
    spans of training, wherever their words occur again, with their most frequent type (the baseline of Tjong Kim Sang & De Meulder 2003)."""

    def __init__(self, words: Sequence[Sequence[str]], codes: Sequence[np.ndarray], tags: tuple[str, ...], usual: int, spanned: bool):  # fmt: skip
        self.tags, self.spanned = tags, spanned
        self.usual = tags.index(OUTSIDE) if spanned else usual
        count: dict[str, Counter] = {}
        phrases: dict[tuple[str, ...], Counter] = {}
        for some, own in zip(words, codes, strict=True):
            for word, code in zip(some, own.tolist(), strict=True):
                if code >= 0:
                    count.setdefault(word, Counter())[code] += 1
            for kind, start, stop in spans([tags[k] if k >= 0 else OUTSIDE for k in own.tolist()] if spanned else []):
                phrases.setdefault(tuple(some[start:stop]), Counter())[kind] += 1
        self.word = {word: held.most_common(1)[0][0] for word, held in count.items()}
        self.phrase = {words: held.most_common(1)[0][0] for words, held in phrases.items()}
        self.longest = max(map(len, self.phrase), default=0)

    def guesses(self, words: Sequence[Sequence[str]]) -> dict[str, list[np.ndarray]]:
        """{name of the baseline: codes of every sentence's words}."""
        constant = "outside everywhere" if self.spanned else "the most frequent tag everywhere"
        out = {
            constant: [np.full(len(some), self.usual) for some in words],
            "most frequent tag of each known word": [self._by_word(some) for some in words],
        }
        return out | ({"known spans": [self._by_phrase(some) for some in words]} if self.spanned else {})

    def _by_word(self, words: Sequence[str]) -> np.ndarray:
        codes = [self.word.get(word, self.usual) for word in words]
        return self._codes(to_iob2([self.tags[k] for k in codes], "IOB2")[0]) if self.spanned else np.array(codes)

    def _by_phrase(self, words: Sequence[str]) -> np.ndarray:
        tags, place = [OUTSIDE] * len(words), 0
        while place < len(words):
            reach = min(self.longest, len(words) - place)
            length = next((n for n in range(reach, 0, -1) if tuple(words[place : place + n]) in self.phrase), 0)
            if length:
                kind = self.phrase[tuple(words[place : place + length])]
                tags[place : place + length] = [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
            place += length or 1
        return self._codes(tags)

    def _codes(self, tags: Sequence[str | None]) -> np.ndarray:
        return np.array([self.tags.index(tag or OUTSIDE) for tag in tags], np.int64)


class BlindAnswers:
    """Guesses at answers from the words alone: "the first words", as many as answers usually have; "words beside the question's", the stretch of as many words, none of
    them in the question, that has most of the question's weight beside it (as Richardson et al. 2013 slide a window); "the best sentence".

    How many: the median of training, for the question's first word where that has begun five questions.  Where training has questions
    without an answer, also "no answer everywhere"."""

    def __init__(self, questions: Sequence[str], answers: Sequence[Sequence[str]]):
        lengths: dict[str, list[int]] = {}
        for question, given in zip(questions, answers, strict=True):
            if given:
                lengths.setdefault(_opening(question), []).append(max(1, len(words_of(given[0]))))
        self.usual = int(np.median([n for held in lengths.values() for n in held] or [1]))
        self.length = {word: int(np.median(held)) for word, held in lengths.items() if len(held) >= 5}
        self.nothing = not all(answers)

    def guesses(self, contexts: Sequence[str], questions: Sequence[str]) -> dict[str, list[str]]:
        """{name of the baseline: an answer to every question}."""
        shared = [Shared.of(context, question) for context, question in zip(contexts, questions, strict=True)]
        counts = [self.length.get(_opening(question), self.usual) for question in questions]
        out = {
            "the first words": [_span(s, 0, n) for s, n in zip(shared, counts)],
            "words beside the question's": [_beside(s, n) for s, n in zip(shared, counts)],
            "the best sentence": [_sentence(s) for s in shared],
        }
        return out | ({"no answer everywhere": [""] * len(questions)} if self.nothing else {})


def _opening(question: str) -> str:
    words = words_of(question)
    return question[slice(*words[0])].casefold() if words else ""


def _span(shared: Shared, first: int, count: int) -> str:
    some = shared.words[first : first + count]
    return shared.text[some[0][0] : some[-1][1]] if some else ""


def _beside(shared: Shared, count: int) -> str:
    near, sentence = shared.near(NEAR[0]) + shared.near(NEAR[1]), shared.by_sentence()
    best, found, count = -1.0, 0, min(count, len(shared.words))
    for first in range(len(shared.words) - count + 1 if count else 0):
        own = slice(first, first + count)
        if shared.weight[own].any() or len(set(shared.sentence[own].tolist())) > 1:
            continue
        score = float((near[own] + sentence[own]).mean())
        if score > best:
            best, found = score, first
    return _span(shared, found, count)


def _sentence(shared: Shared) -> str:
    if not shared.words:
        return ""
    own = np.flatnonzero(shared.sentence == shared.sentence[shared.by_sentence().argmax()])
    return _span(shared, int(own[0]), len(own))
