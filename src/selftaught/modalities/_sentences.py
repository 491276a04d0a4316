"""Sentences of a small grammar with known factors: topic, tense, sentiment, number."""

from __future__ import annotations

import numpy as np

_TOPICS = (
    (
        ("farmer", "shepherd", "horse", "cow", "goat", "dog"),
        (("guards", "guard", "guarded"), ("follows", "follow", "followed"), ("feeds", "feed", "fed"), ("leads", "lead", "led")),
        ("meadow", "barn", "harvest", "fence", "orchard", "stable"),
    ),
    (
        ("cook", "baker", "waiter", "guest", "chef", "butcher"),
        (("tastes", "taste", "tasted"), ("bakes", "bake", "baked"), ("serves", "serve", "served"), ("stirs", "stir", "stirred")),
        ("soup", "bread", "sauce", "cake", "dinner", "pepper"),
    ),
    (
        ("sailor", "captain", "pilot", "fisherman", "diver", "whale"),
        (("crosses", "cross", "crossed"), ("steers", "steer", "steered"), ("watches", "watch", "watched"), ("reaches", "reach", "reached")),
        ("harbour", "island", "anchor", "storm", "coast", "tide"),
    ),
    (
        ("singer", "drummer", "pianist", "violinist", "composer", "dancer"),
        (("plays", "play", "played"), ("rehearses", "rehearse", "rehearsed"), ("hears", "hear", "heard"), ("records", "record", "recorded")),
        ("melody", "concert", "rhythm", "song", "chorus", "opera"),
    ),
)  # fmt: skip
_FEELINGS = (
    (("gloomy", "dreadful", "bitter", "clumsy", "tired"), ("badly", "sadly", "in vain", "with regret")),
    (("cheerful", "splendid", "lovely", "clever", "happy"), ("well", "gladly", "with success", "with delight")),
)
_TIMES = (
    ("yesterday", "last year", "long ago"),
    ("today", "every day", "at this hour"),
    ("tomorrow", "next year", "soon"),
)
_PLURALS = {"fisherman": "fishermen"}


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, noun + "s")


def _sentence(rng: np.random.Generator, topic: int, tense: int, sentiment: int, number: int) -> str:
    pick = lambda words: words[int(rng.integers(len(words)))]  # noqa: E731
    nouns, verbs, objects = _TOPICS[topic]
    adjectives, adverbs = _FEELINGS[sentiment]
    singular, plural, past = pick(verbs)
    verb = (past, plural if number else singular, f"will {plural}")[tense]
    noun = _plural(pick(nouns)) if number else pick(nouns)
    words = ["the", *([pick(adjectives)] if rng.random() < 0.7 else []), noun, verb, "the", pick(objects)]
    words += [pick(adverbs)] if rng.random() < 0.7 or len(words) == 5 else []
    when = pick(_TIMES[tense])
    text = f"{when}, {' '.join(words)}" if rng.random() < 0.5 else f"{' '.join(words)} {when}"
    return text[0].upper() + text[1:] + "."


def sentences(rows: int, seed: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """`rows` texts of one to three sentences, and what all sentences of a row share: topic (4), tense (3: past, present,
    future), sentiment (2), number (2), each int64, drawn independently and evenly."""
    rng = np.random.default_rng(seed)
    counts = {"topic": 4, "tense": 3, "sentiment": 2, "number": 2}
    factors = {name: rng.integers(count, size=rows) for name, count in counts.items()}
    texts = []
    for row in range(rows):
        own = [int(values[row]) for values in factors.values()]
        texts.append(" ".join(_sentence(rng, *own) for _ in range(int(rng.integers(1, 4)))))
    return texts, factors
