"""Splits that keep groups and duplicates together, stratified where the labels allow it; and few-label draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..core import DataError, RequestError, random
from .duplicates import exact_duplicates
from .labels import Labels

DEFAULT = {"train": 0.8, "validation": 0.1, "test": 0.1}
_BINS = 10
"""Quantiles by which numbers are stratified."""


def _order(key: int, n: int) -> np.ndarray:
    return random.permutation(key, n).numpy()


def units(rows: int, *ties: np.ndarray | None) -> np.ndarray:
    """(rows,) int64: rows that share a group or a cluster, however indirectly, have the same number."""
    held = [np.asarray(tie) for tie in ties if tie is not None]
    if not held:
        return np.arange(rows)
    starts, joined = [], []
    for tie in held:
        if len(tie) != rows:
            raise ValueError(f"{len(tie)} groups for {rows} rows")
        _, first, inverse = np.unique(tie, return_index=True, return_inverse=True)
        starts.append(np.arange(rows))
        joined.append(first[inverse])
    pairs = (np.concatenate(starts), np.concatenate(joined))
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(rows, rows))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def strata(labels: Labels | np.ndarray | None, rows: int) -> np.ndarray:
    """(rows,) int64: classes (of several, the rarest), or tenths of the numbers; rows without a label are a stratum of their own."""
    if labels is None:
        return np.zeros(rows, np.int64)
    held = (
        labels
        if isinstance(labels, Labels)
        else Labels(np.asarray(labels), ("",) if labels.dtype.kind in "iu" else None)
    )
    if len(held) != rows:
        raise ValueError(f"{len(held)} labels for {rows} rows")
    if held.classes is not None:
        return np.unique(held.strata, return_inverse=True)[1].astype(np.int64)
    out = np.full(rows, _BINS, np.int64)
    known = held.known
    edges = np.quantile(held.values[known], np.linspace(0, 1, _BINS + 1)[1:-1])
    out[known] = np.searchsorted(edges, held.values[known], side="right")
    return np.unique(out, return_inverse=True)[1].astype(np.int64)


def split(
    rows: int,
    fractions: Mapping[str, float] = DEFAULT,
    *,
    seed: int = 0,
    labels: Labels | np.ndarray | None = None,
    groups: np.ndarray | None = None,
    duplicates: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """{name: sorted places} by fractions: deterministic, stratified where possible.

    Rows of one group, and rows of one cluster of duplicates (`duplicates`: (rows,) cluster numbers), stay together.
    Fractions below 1 in sum leave rows out.  Raises RequestError for impossible fractions, DataError where a split would
    be empty.  O(rows log rows).
    """
    shares = _checked(fractions)
    unit = units(rows, groups, duplicates)
    stratum = strata(labels, rows)
    where = _assign(unit, stratum, np.array([*shares.values(), max(0.0, 1 - sum(shares.values()))]), seed)
    out = {name: np.flatnonzero(where == number) for number, name in enumerate(shares)}
    empty = [name for name in out if not len(out[name])]
    if empty:
        count = len(np.unique(unit))
        what = f"{count} groups (rows that belong together, or are duplicates)" if count < rows else f"{rows} rows"
        raise DataError(
            f"{what} are too few for the splits {', '.join(shares)}: {', '.join(empty)} would be empty.",
            "Give more data, larger fractions, or fewer splits.",
        )
    return out


def hold_out(dataset, share: float, *, group: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held) places of `dataset`: the same for every pretraining of these rows, whatever its seed, so that runs can be compared.

    Needs no labels; rows of one group (column `group`, or what looks like one) and exact copies stay together.
    """
    if not 0 < share < 1:
        raise RequestError(
            f"--holdout {share:g} is no share of the rows.", "Give a number between 0 and 1; 0.2 is usual."
        )
    shares = {"kept": 1 - share, "held": share}
    found = split(
        len(dataset),
        shares,
        seed=random.key("holdout"),
        groups=dataset.groups(group),
        duplicates=exact_duplicates(dataset),
    )
    return found["kept"], found["held"]


def leave_out(dataset, group: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held) places of `dataset`: held are the rows whose column `group` is one of `names`.

    RequestError for a name that no row has.  Rows without a group are kept.
    """
    values = group_names(dataset, group)
    found = {name for name in values.tolist() if name is not None}
    missing = [name for name in names if name not in found]
    if missing or not names:
        listed = ", ".join(sorted(found)[:12]) + (", ..." if len(found) > 12 else "")
        raise RequestError(f"No row has {group} {', '.join(missing) or '(none named)'}.", f"There are: {listed}.")
    held = np.isin(values.astype(str), list(names)) & np.array([v is not None for v in values.tolist()])
    return np.flatnonzero(~held), np.flatnonzero(held)


def group_names(dataset, group: str) -> np.ndarray:
    """(len(dataset),) object: the group of each row as text; None where it has none."""
    values = dataset.values(group).tolist()
    return np.array([None if v is None or v != v or v == "" else str(v) for v in values], dtype=object)


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    shares = {name: float(share) for name, share in fractions.items()}
    if not shares or any(not 0 < share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise RequestError(f"These fractions are no split: {shares}.", "Give positive fractions that sum to at most 1.")
    return shares


def _assign(unit: np.ndarray, stratum: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """(rows,) number of the split.  Large units go first, where they are missed most; single rows fill up each stratum."""
    classes = int(stratum.max()) + 1 if len(stratum) else 1
    size = np.bincount(unit)
    wanted = shares[:, None] * np.bincount(stratum, minlength=classes)[None]
    have = np.zeros_like(wanted)
    where = np.full(len(unit), -1, np.int64)
    by_unit = np.argsort(unit, kind="stable")
    starts = np.concatenate([[0], np.cumsum(size)])
    shuffled = _order(random.key(seed, "split units"), len(size))
    large = shuffled[size[shuffled] > 1]
    for number in large[np.argsort(-size[large], kind="stable")].tolist():
        rows = by_unit[starts[number] : starts[number + 1]]
        counts = np.bincount(stratum[rows], minlength=classes)
        missed = ((wanted - have) * counts).sum(1) / np.maximum(wanted @ counts, 1e-12)
        missed[shares <= 1e-9] = -np.inf
        best = int(np.argmax(missed))
        have[best] += counts
        where[rows] = best
    single = by_unit[starts[:-1]][size == 1]
    single = single[_order(random.key(seed, "split rows"), len(single))]
    owed = np.zeros(len(shares))
    for c in range(classes):
        mine = single[stratum[single] == c]
        missing = np.maximum(wanted[:, c] - have[:, c], 0)
        exact = missing * (len(mine) / missing.sum()) if missing.sum() > 0 else shares * len(mine)
        counts = _whole(exact, len(mine), owed)
        owed += exact - counts
        where[mine] = np.repeat(np.arange(len(shares)), counts)
    return where


def _whole(exact: np.ndarray, rows: int, owed: np.ndarray) -> np.ndarray:
    """`exact` shares of `rows` in whole numbers, each rounded down or up: up first where the most is owed from strata before."""
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = exact - whole
    order = np.argsort(np.where(rest > 1e-9, -(rest + owed).round(9), np.inf), kind="stable")
    whole[order[: rows - int(whole.sum())]] += 1
    return whole


def draws(
    labels: Labels, per_class: int, n: int, seed: int = 0, *, within: np.ndarray | Sequence[int] | None = None
) -> list[np.ndarray]:
    """`n` draws of `per_class` rows of every class: sorted int64 places, each of classes x per_class.

    A smaller budget's draw lies inside the larger one's of the same seed and number, so that label curves are nested.
    `within` are the places that may be drawn (default: all); rows without a label never are.  Raises DataError where a
    class has fewer rows, RequestError for numbers.
    """
    if labels.classes is None:
        raise RequestError(
            f"Column {labels.column!r} holds numbers, which have no classes to balance.", "Draw rows instead."
        )
    if per_class < 1 or n < 1:
        raise RequestError(f"{n} draws of {per_class} labels a class cannot be made.", "Give numbers of at least 1.")
    allowed = np.arange(len(labels)) if within is None else np.asarray(within, dtype=np.int64)
    codes = labels.values[allowed]
    members = {name: allowed[codes == code] for code, name in enumerate(labels.classes)}
    members = {name: rows for name, rows in members.items() if len(rows)} if within is not None else members
    short = {name: len(rows) for name, rows in members.items() if len(rows) < per_class}
    if short:
        name, count = min(short.items(), key=lambda item: item[1])
        raise DataError(
            f"Class {name!r} has {count} labelled rows, {per_class} a class are asked for.",
            f"Ask for at most {count} labels a class, or leave that class out.",
        )
    return [
        np.sort(np.concatenate([_drawn(rows, per_class, seed, k, name) for name, rows in members.items()]))
        for k in range(n)
    ]


def _drawn(rows: np.ndarray, count: int, seed: int, k: int, name: str) -> np.ndarray:
    """The rows with the smallest random number: a pure function of (seed, draw, class, row)."""
    bits = random.bits(random.key(seed, "draw", k, name), torch.from_numpy(np.ascontiguousarray(rows)))
    return rows[torch.argsort(bits, stable=True)[:count].numpy()]
