"""Sentences of a small grammar with known factors: topic, tense, sentiment, number."""

from __future__ import annotations

import numpy as np

_TOPICS = (  # who, does, what
    (
        "farmer shepherd horse cow goat dog miller gardener hen donkey rider ploughman",
        "guard follow feed lead water mow plant harvest fence herd",
        "meadow barn harvest fence orchard stable field haystack furrow pasture trough cart",
    ),
    (
        "cook baker waiter guest chef butcher grocer brewer host taster maid steward",
        "taste bake serve stir roast season slice boil grill order",
        "soup bread sauce cake dinner pepper stew pudding cheese breakfast onion roast",
    ),
    (
        "sailor captain pilot diver whale oarsman pirate admiral seal boatman dolphin rower",
        "cross steer watch reach anchor row explore chart pass leave",
        "harbour island anchor storm coast tide reef lighthouse bay cargo wave strait",
    ),
    (
        "singer drummer pianist violinist composer dancer fiddler organist conductor tenor poet piper",
        "play rehearse praise record perform whistle compose hum applaud repeat",
        "melody concert rhythm song chorus opera waltz anthem ballad symphony tune serenade",
    ),
)
_FEELINGS = (  # how they are, how they do it
    (
        "gloomy dreadful bitter clumsy tired wretched nasty miserable lazy angry jealous rude",
        "badly sadly poorly angrily bitterly miserably reluctantly carelessly",
    ),
    (
        "cheerful splendid lovely clever happy brilliant kind charming eager gentle proud merry",
        "well gladly superbly happily eagerly brilliantly willingly carefully",
    ),
)
_TIMES = (
    ("yesterday", "last year", "long ago", "last night", "an hour ago", "back then"),
    ("today", "every day", "at this hour", "these days", "as a rule", "right now"),
    ("tomorrow", "next year", "soon", "before long", "one day", "next week"),
)


def _plural(noun: str) -> str:
    return f"{noun[:-3]}men" if noun.endswith("man") else f"{noun}s"


def _verb(base: str, tense: int, number: int) -> str:
    hissing = base.endswith(("s", "sh", "ch", "x"))
    if tense == 0:
        return {"feed": "fed", "lead": "led", "leave": "left", "mow": "mowed", "hum": "hummed"}.get(
            base, base + ("d" if base[-1] == "e" else "ed")
        )
    return f"will {base}" if tense == 2 else base if number else base + ("es" if hissing else "s")


def _sentence(rng: np.random.Generator, topic: int, tense: int, sentiment: int, number: int) -> str:
    def pick(words: str) -> str:
        listed = words.split()
        return listed[int(rng.integers(len(listed)))]

    nouns, verbs, objects = _TOPICS[topic]
    adjectives, adverbs = _FEELINGS[sentiment]
    noun = pick(nouns)
    noun = _plural(noun) if number else noun
    said = rng.random() < 0.7
    words = [
        "the",
        *([pick(adjectives)] if said else []),
        noun,
        _verb(pick(verbs), tense, number),
        "the",
        pick(objects),
    ]
    words += [pick(adverbs)] if not said or rng.random() < 0.5 else []
    when = _TIMES[tense][int(rng.integers(len(_TIMES[tense])))]
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
