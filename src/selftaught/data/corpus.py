"""What is wrong with a corpus of texts: repeated lines, boilerplate, mixed languages, spoiled encodings, texts too short or too long.

The commonest cause of a loss that does not fall is repetition (thousands of equal lines), then a corpus that is too small.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .bad import Bad
from .dataset import Dataset
from .languages import language_of

ROWS, CHARACTERS = 20_000, 1 << 25
"""Texts, evenly spread, and characters that are looked at."""
SHORT, LONG = 3, 100_000
"""Words below which, and characters above which, a text is called very short or very long."""
EDGE = 5
"""Words at a text's beginning or end that must agree to be boilerplate."""
_SHOWN = 5
_LINES = 1 << 20
"""Different lines that are remembered."""
_SMALL = 100_000
"""Words below which a corpus is small for a language model."""
_FOREIGN = re.compile(r"[\u0080-\u00ffŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™]{2,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HTML = re.compile(
    r"</?(?:br|p|div|span|a|i|b|em|strong|ul|ol|li|h[1-6]|table|tr|td|th|img|script|style|font)\b[^<>]{0,200}>|&(?:amp|lt|gt|quot|nbsp|#\d{1,7}|#x[0-9a-f]{1,6});",
    re.IGNORECASE,
)


def is_mojibake(text: str) -> str | None:
    """The first run of signs that are the bytes of UTF-8 read one by one ("Ã¤" for "ä"); None where there is none."""
    for found in _FOREIGN.finditer(text):
        try:
            data = b"".join(_byte(c) for c in found[0])
            if len(data.decode("utf-8")) < len(found[0]):
                return found[0]
        except (UnicodeDecodeError, UnicodeEncodeError):
            continue
    return None


def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


_ENCODING = {
    "mojibake": is_mojibake,
    "replacement characters": lambda text: "\ufffd" if "\ufffd" in text else None,
    "control characters": lambda text: repr(found[0]) if (found := _CONTROL.search(text)) else None,
    "HTML": lambda text: found[0] if (found := _HTML.search(text)) else None,
}
"""{kind of trouble: what shows it, or None}."""


@dataclass
class _Tally:
    """What is counted text by text."""

    rows: int = 0
    empty: int = 0
    words: list[int] = field(default_factory=list)
    long: int = 0
    lines: Counter = field(default_factory=Counter)
    seen_lines: int = 0
    languages: Counter = field(default_factory=Counter)
    trouble: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    heads: dict[str, list[str]] = field(default_factory=dict)
    tails: dict[str, list[str]] = field(default_factory=dict)
    edges: int = 0

    def add(self, text: str) -> None:
        words = text.split()
        self.rows += 1
        self.words.append(len(words))
        self.long += len(text) > LONG
        for line in text.split("\n"):
            line = line.strip()
            if line and (line in self.lines or len(self.lines) < _LINES):
                self.lines[line] += 1
                self.seen_lines += 1
        self.languages[language_of(text)] += 1
        for kind, search in _ENCODING.items():
            shown = search(text)
            if shown is not None:
                self.trouble[kind] += 1
                self.examples.setdefault(kind, shown[:40])
        if len(words) > 2 * EDGE:
            self.edges += 1
            _remember(self.heads, " ".join(words[:EDGE]), " ".join(words[:60]))
            _remember(self.tails, " ".join(words[-EDGE:]), " ".join(words[-60:]))


def _remember(held: dict[str, list[str]], key: str, text: str) -> None:
    """Keeps the texts of an edge, a few whole and of the others the number."""
    held.setdefault(key, []).append(text if len(held.get(key, ())) < 50 else "")


def inspect(dataset: Dataset, *, repeated: int = 0, near: int = 0) -> dict[str, Any]:
    """{"asked", "of", "words", "empty", "very_short", "very_long", "lines", "boilerplate", "languages", "encoding", "causes"} of a sample of the texts.

    repeated, near: rows that `count_duplicates` found to be copies.  "causes": what may keep a loss from falling, the likeliest first, each a
    {"cause", "share", "text", "remedy"}.  At most 20,000 texts and 32 Mi characters are looked at; larger texts count with their beginning.
    """
    tally = _Tally()
    rows = np.unique(np.linspace(0, dataset.source.rows - 1, min(dataset.source.rows, ROWS)).astype(np.int64))
    asked = _read(tally, dataset.source.payloads(dataset.column, rows))
    count = np.array(tally.words or [0])
    found: dict[str, Any] = {
        "asked": asked, "of": dataset.source.rows, "words": round(float(count.sum()) * dataset.source.rows / max(1, asked)), "empty": tally.empty,
        "very_short": int((count < SHORT).sum()) if tally.words else 0, "very_long": tally.long, "lines": _lines(tally), "boilerplate": _boilerplate(tally),
        "languages": {name: round(n / max(1, tally.rows), 4) for name, n in tally.languages.most_common()},
        "encoding": {kind: {"texts": n, "for_example": tally.examples[kind]} for kind, n in tally.trouble.most_common()},
    }  # fmt: skip
    return {**found, "causes": _causes(found, tally.rows, repeated / max(1, len(dataset)), near / max(1, len(dataset)))}


def _read(tally: _Tally, payloads: Iterable) -> int:
    """Counts texts until the characters are spent; returns how many rows were looked at."""
    asked = spent = 0
    for payload in payloads:
        asked += 1
        if isinstance(payload, Bad):
            tally.empty += payload.kind in ("empty text", "empty file", "no value")
            continue
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload)
        tally.add(text[:CHARACTERS])
        spent += len(text)
        if spent > CHARACTERS:
            break
    return asked


def _lines(tally: _Tally) -> dict[str, Any]:
    """How many lines repeat an earlier one, and which do most."""
    again = tally.seen_lines - len(tally.lines)
    often = [{"line": line[:200], "count": n} for line, n in tally.lines.most_common(_SHOWN) if n > 1]
    return {"count": tally.seen_lines, "repeated": round(again / max(1, tally.seen_lines), 4), "most": often}


def _boilerplate(tally: _Tally) -> list[dict[str, Any]]:
    """What many texts begin or end with: at least a hundredth of them, and five."""
    least, out = max(5, tally.edges // 100), []
    for where, held in (("beginning", tally.heads), ("end", tally.tails)):
        for texts in sorted(held.values(), key=len, reverse=True)[:_SHOWN]:
            if len(texts) >= least:
                common = _common([t for t in texts if t], where == "end")
                out.append({"where": where, "text": common, "texts": len(texts), "share": round(len(texts) / tally.edges, 4)})  # fmt: skip
    return out


def _common(texts: list[str], backwards: bool) -> str:
    """The longest run of words that all texts begin (or end) with."""
    split = [t.split()[::-1] if backwards else t.split() for t in texts]
    shared: list[str] = []
    for words in zip(*split):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return " ".join(shared[::-1] if backwards else shared)


def _causes(found: dict[str, Any], rows: int, repeated: float, near: float) -> list[dict[str, Any]]:
    """What may keep a loss from falling, the likeliest first."""
    out: list[dict[str, Any]] = []

    def add(cause: str, share: float, line: float, text: str, remedy: str) -> None:
        if share >= line:
            out.append({"cause": cause, "share": round(share, 4), "text": text, "remedy": remedy})

    add("repeated texts", repeated + near, 0.05, f"{repeated:.1%} of the texts are copies of others, {near:.1%} nearly", "Keep one of each: a model learns copies by heart.")  # fmt: skip
    lines = found["lines"]["repeated"]
    add("repeated lines", lines, 0.1, f"{lines:.1%} of the lines repeat an earlier one", "Leave out lines that return (menus, signatures, licences).")  # fmt: skip
    edge = max((b["share"] for b in found["boilerplate"]), default=0.0)
    add("boilerplate", edge, 0.05, f"{edge:.1%} of the texts begin or end with the same words", "Cut off what the texts have in common.")  # fmt: skip
    add("a small corpus", float(found["words"] < _SMALL), 1.0, f"about {found['words']:,} words: few for a language model", "Add texts of the same kind, or continue a pretrained model (--encoder).")  # fmt: skip
    trouble = max((e["texts"] / max(1, rows) for e in found["encoding"].values()), default=0.0)
    kinds = ", ".join(f"{k} in {e['texts']}" for k, e in found["encoding"].items())
    add("spoiled signs", trouble, 0.05, f"signs that are no text: {kinds} of {rows} texts", "Read the files in their own encoding, and take the markup out.")  # fmt: skip
    told = {k: v for k, v in found["languages"].items() if k != "not told"}
    other = sum(sorted(told.values(), reverse=True)[1:])
    add("several languages", other, 0.1, f"{other:.1%} of the texts are in another language than most", "Train on one language at a time, or give a larger vocabulary (--tokenizer bpe:16000).")  # fmt: skip
    short = (found["very_short"] + found["empty"]) / max(1, rows + found["empty"])
    add("short texts", short, 0.3, f"{short:.1%} of the texts are empty or have less than {SHORT} words", "Join what belongs together into one text.")  # fmt: skip
    return out
