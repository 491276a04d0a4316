"""Rows that are set apart: why, which, how many, and when there are too many to go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core import DataError, RequestError


class Bad(Exception):
    """Why one row is set apart: raised by `modality.decode`, yielded in the row's place by `source.payloads`.

    `reason` is "kind" or "kind: detail"; rows are counted by kind.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = " ".join(reason.split())[:300]

    @property
    def kind(self) -> str:
        return self.reason.partition(":")[0]

    def __reduce__(self):
        return type(self), (self.reason,)


class Rejected(Sequence):
    """The rows that were set apart, as dicts {"row", "name", "reason"} in the order of the source.

    `row` is the row's number in the source; `total` is how many rows the source holds.
    """

    def __init__(self, total: int, rows: Sequence[dict] = ()):
        self.total = total
        self._rows = list(rows)

    def add(self, row: int, name: str, bad: Bad) -> None:
        self._rows.append({"row": int(row), "name": name, "reason": bad.reason})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item):
        return self._rows[item]

    def __iter__(self) -> Iterator[dict]:
        return iter(self._rows)

    def kinds(self) -> dict[str, int]:
        """{kind of reason: rows}, the most frequent first."""
        return dict(Counter(Bad(row["reason"]).kind for row in self._rows).most_common())

    def summary(self) -> str:
        """One line for the screen: "3 of 200 rows set apart: 2 truncated, 1 not an image"; empty where there are none."""
        if not self._rows:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds().items())
        return f"{len(self)} of {self.total} rows set apart: {kinds}"

    def check(self, max_bad: float) -> None:
        """Raises DataError where more than the share `max_bad` of the rows was set apart, or nothing is left."""
        if not 0 <= max_bad <= 1:
            raise RequestError(
                f"--max-bad {max_bad} is no share.", "Give a number from 0 to 1, for example 0.05 for 5 %."
            )
        left = self.total - len(self)
        first = "; ".join(f"{row['name']}: {row['reason']}" for row in self._rows[:3])
        if self.total and not left:
            raise DataError(
                f"None of the {self.total} rows can be read ({first}).", "Check that these are the right data."
            )
        if len(self) > max_bad * self.total:
            share = 100 * len(self) / self.total
            raise DataError(
                f"{self.summary()} ({share:.2f} %, above --max-bad {max_bad:g}). The first: {first}.",
                f"Repair or remove them, or accept them with --max-bad {_round_up(len(self) / self.total):g}.",
            )

    def write(self, path: str | Path) -> None:
        """Writes `rejected.jsonl`: one JSON object a line."""
        Path(path).write_bytes(self.lines())

    def lines(self) -> bytes:
        return b"".join(json.dumps(row).encode("ascii") + b"\n" for row in self._rows)

    @classmethod
    def read(cls, path: str | Path, total: int) -> Rejected:
        return cls(total, [json.loads(line) for line in Path(path).read_text("ascii").splitlines()])


def _round_up(share: float) -> float:
    """The share in whole per cent that just lets it pass."""
    return min(1.0, (int(share * 100) + 1) / 100)
