"""A language model on texts that it has not seen: bits per byte, or the nats of fixed gaps, with intervals over documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from .. import measures, modalities, nets
from ..core import DataError, Draw, Kept, RequestError, View, random
from ..core.listener import Listener
from ..data.bad import Bad
from ..losses import per_token
from ..modalities.text import readable
from ..tasks.language_model import LanguageModel
from ..train.precision import device_of
from ..views import random_tokens
from ..views.text import BEGIN, END, PAD
from . import statistics
from .opening import folder_of, held_out, open_dataset, pretrained_on

LOGITS = 1 << 24
"""Held at once."""
ROWS = 32
"""Windows that are read at once."""


@dataclass(frozen=True)
class Document:
    """A text: its ids without marks, and its bytes of UTF-8."""

    ids: np.ndarray
    size: int


def evaluate_language(
    run, data, *, seed: int = 0, column: str | None = None, max_bad: float = 0.01, device: str | None = "cpu",
    listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How well a run's own head predicts `data` (path, `hf:NAME`, Dataset of texts); what `evaluate --task language-model --json` prints.

    {"task", "metric", "reads": "causal" or "masked", "rows": [{"features", "mean", "low", "high", "perplexity"}] of the run ("pretrained") and of the token
    frequencies of the other documents ("unigram"), "differences", "documents", "tokens", "bytes", "tokenizer", "context",
    "seen_in_pretraining", "sentence"}.  Lower is better.  Where `data` are what the run was pretrained on with --holdout, the rows held out are scored; without
    it the result says that the run has seen them.  seed: of the gaps and the bootstrap.
    Raises RequestError where the run has no language model's head.  Cost: two forward passes over the texts (one for gaps).
    """
    listener = listener or Listener()
    kept, modality, predicts = open_model(run)
    found = open_dataset(data, modality, listener, column=column, max_bad=max_bad)
    held = held_out(run, found, listener)
    seen = held is None and pretrained_on(run, found)
    if seen:
        listener.say("the run was pretrained on these very texts: the figures say how well it learned them by heart.")
    texts = documents(found if held is None else found.subset(held), modality)
    where, unit = device_of(device), kept.encoder.context
    encoder, head = kept.encoder.to(where), kept.parts["head"].to(where)
    listener.say(
        f"{len(texts)} documents, {sum(len(t.ids) for t in texts)} tokens, {sum(t.size for t in texts)} bytes."
    )
    score = _causal if predicts == "next" else _masked
    nats, owner, place = score(encoder, head, modality, texts, seed, listener)
    ids, whole = np.concatenate([t.ids for t in texts]), np.repeat(np.arange(len(texts)), [len(t.ids) for t in texts])
    begins = np.cumsum([0, *(len(t.ids) for t in texts)])[:-1]
    common = measures.unigram_nats(ids.astype(np.int64), whole, modality.vocabulary)[begins[owner] + place]
    about = {
        "documents": len(texts), "bytes": sum(t.size for t in texts), "tokenizer": modality.describe(), "context": int(unit),  # type: ignore[arg-type]
        "seen_in_pretraining": bool(seen),
    }  # fmt: skip
    result = {**_result(nats, common, owner, texts, predicts, seed), **about}
    result["sentence"] += "  The run was pretrained on these very texts." * seen
    return result


def open_model(run) -> tuple[Kept, Any, str]:
    """Encoder with head, modality, and what the head predicts ("own" place or "next"); RequestError where there is none."""
    folder = folder_of(run) if not isinstance(run, list | tuple) else None
    if folder is None:
        raise RequestError("A language model is scored with its own head.", "Give the folder of one run.")
    home = nets.store.find(folder)
    kept, modality = nets.store.load(home), modalities.load(home)
    head = kept.parts.get("head")
    if not hasattr(modality, "text_of") or not isinstance(head, nn.Linear):
        raise RequestError(
            f"{str(folder)!r} holds no language model: it predicts no words.",
            "Runs of next-token, hybrid, masked-token and bert on text do.",
        )
    causal = "next" if getattr(kept.encoder, "causal", False) else "own"
    return kept, modality, getattr(head, "predicts", causal)


def documents(data, modality) -> list[Document]:
    """The texts of a dataset; lines of one document (column "document") joined by line breaks, as packing joins them."""
    count, payloads = np.arange(len(data)), data.source.payloads(data.column, data.source_rows())
    rows = data.rows(count)
    cut = lambda i: rows.values[rows.offsets[i] : rows.offsets[i + 1]].numpy().astype(np.int64)  # noqa: E731
    lines = []
    for i, payload in zip(count.tolist(), payloads, strict=True):
        if isinstance(payload, Bad):
            raise DataError(f"{data.names([i])[0]} can no longer be read: {payload}.", "Put the data back.")
        ids = cut(i)
        text = modality.text_of(ids) if len(ids) >= modality.longest else readable(payload)
        lines.append(Document(ids, len(text.encode())))
    if "document" not in data.columns:
        return lines
    of = np.unique([str(v) for v in data.values("document")], return_inverse=True)[1]
    line_break = np.array(
        [i for i in modality.bpe.encode("\n", add_special_tokens=False).ids if i >= modality.specials]
    )
    joined = []
    for number in range(int(of.max()) + 1):
        some = [lines[i] for i in np.flatnonzero(of == number)]
        ids = [x for one in some for x in (line_break, one.ids)][1:]
        joined.append(Document(np.concatenate(ids), sum(one.size for one in some) + len(some) - 1))
    return joined


def windows(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """(first, behind the last, first that is scored) token of windows over a text of `length`, each of context - 1 tokens at most: every
    token is scored once, and behind the first window from half a context or more."""
    step, done = max(1, context // 2), 0
    for first in range(0, max(1, length), step):
        behind = min(first + context - 1, length)
        if behind > done:
            yield first, behind, done
            done = behind
        if done >= length:
            return


@torch.no_grad()
def _causal(encoder, head, modality, texts: list[Document], seed: int, listener: Listener):
    """(nats, document, place) of every token, each (T,)."""
    parts = [(n, *w) for n, text in enumerate(texts) for w in windows(len(text.ids), encoder.context)]
    parts.sort(key=lambda p: p[2] - p[1])
    out: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(parts), ROWS):
        some = parts[start : start + ROWS]
        view = _view(encoder, [[BEGIN, *texts[n].ids[first:behind].tolist()] for n, first, behind, _ in some])
        hidden = encoder.trunk(encoder.tokenize(view), causal=True).values
        row = np.concatenate([np.full(behind - scored, i) for i, (_, _, behind, scored) in enumerate(some)])
        place = np.concatenate([np.arange(scored, behind) for _, _, behind, scored in some])
        first = np.array([p[1] for p in some])[row]
        at = torch.from_numpy(place - first).to(hidden.device)
        rows = torch.from_numpy(row).to(hidden.device)
        nats = _nats(hidden[rows, at], view["ids"][rows, at + 1], head)
        out.append((nats, np.array([p[0] for p in some])[row], place))
        listener.progress("scoring", min(start + ROWS, len(parts)), len(parts))
    return tuple(np.concatenate(column) for column in zip(*out, strict=True))


@torch.no_grad()
def _masked(encoder, head, modality, texts: list[Document], seed: int, listener: Listener):
    """(nats, document, place) of every token that was hidden, each (M,): the same ones for the same texts and seed."""
    room = encoder.context - 2
    parts = [(n, first) for n, text in enumerate(texts) for first in range(0, len(text.ids), room)]
    out: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(parts), ROWS):
        some = parts[start : start + ROWS]
        pieces = [texts[n].ids[first : first + room].tolist() for n, first in some]
        ends = [first + room >= len(texts[n].ids) for n, first in some]
        view = _view(encoder, [[BEGIN, *p, *([END] if e else [])] for p, e in zip(pieces, ends, strict=True)])
        numbers = torch.tensor([random.key(n, first) for n, first in some], device=view.device)
        draw = Draw(numbers, random.key(seed, "gaps"))
        tokens = encoder.tokenize(view)
        chosen = random_tokens(draw, modality.target(view, None).valid & tokens.content, LanguageModel().ratio)
        read = encoder.trunk(encoder.tokenize(modality.corrupt(view, chosen, None, draw))).values
        row, at = chosen.nonzero(as_tuple=True)
        nats = _nats(read[row, at], view["ids"][row, at], head)
        part = np.array(some)[row.cpu().numpy()]
        out.append((nats, part[:, 0], part[:, 1] + at.cpu().numpy() - 1))
        listener.progress("scoring", min(start + ROWS, len(parts)), len(parts))
    return tuple(np.concatenate(column) for column in zip(*out, strict=True))


def _view(encoder, rows: list[list[int]]) -> View:
    device = next(encoder.parameters()).device
    ids = nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=PAD).to(device)
    lengths = torch.tensor([len(r) for r in rows], device=device)
    return View("text", parts={"ids": ids, "valid": torch.arange(ids.shape[1], device=device) < lengths[:, None]})


def _nats(hidden: Tensor, wanted: Tensor, head: nn.Linear) -> np.ndarray:
    """(M,) float64 surprise at each wanted id."""
    rows = max(1, LOGITS // head.out_features)
    parts = [per_token(head(h), w, True) for h, w in zip(hidden.split(rows), wanted.split(rows), strict=True)]
    return torch.cat(parts).double().cpu().numpy()


def _result(nats, common, owner, texts: list[Document], predicts: str, seed: int) -> dict[str, Any]:
    """The figures of the model and of token frequencies with intervals over documents, and a sentence."""
    causal, count = predicts == "next", len(texts)
    tokens = np.bincount(owner, minlength=count)
    scored = tokens > 0
    bottom = (np.array([t.size for t in texts]) * np.log(2) if causal else tokens)[scored].astype(np.float64)
    arms, rows = {}, []
    for name, values in (("pretrained", nats), ("unigram", common)):
        top = np.bincount(owner, values, minlength=count)[scored]
        arms[name] = statistics.Scores(top[None, None], bottom, None)
        span = statistics.interval(arms[name], seed=seed)
        perplexity = measures.perplexity(float(values.sum()), len(values))
        rows.append({"features": name, "mean": span.mean, "low": span.low, "high": span.high, "perplexity": perplexity})
    gap = statistics.interval(arms["pretrained"].minus(arms["unigram"]), seed=seed)
    word = "perplexity" if causal else "pseudo-perplexity"
    metric = "bits per byte" if causal else "nats per hidden token"
    first, other = rows
    sentence = (
        f"{first['mean']:.3f} {metric} [{first['low']:.3f}, {first['high']:.3f}] on {count} documents, where token frequencies alone "
        f"lose {other['mean']:.3f}; {word} {first['perplexity']:.1f} a token, with this tokenizer and context only."
    )
    return {
        "task": "language-model", "metric": metric, "reads": "causal" if causal else "masked", "rows": rows,
        "differences": [{"a": "pretrained", "b": "unigram", "mean": gap.mean, "low": gap.low, "high": gap.high}],
        "tokens": len(nats), "sentence": sentence,
    }  # fmt: skip
