"""Several columns of one source side by side: pairs of texts, a question with its context, a sentence with its translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..core import DataError, View
from .dataset import Dataset
from .labels import Labels
from .source import Source
from .store import Progress


class Aligned:
    """Rows of `parts` {role: Dataset}, one column each: row i of every part comes from one row of the source.

    Only rows that are usable in every part are here.  Labels are those of the source, whichever part is asked.
    """

    def __init__(self, parts: Mapping[str, Dataset]):
        rows = [part.source_rows() for part in parts.values()]
        if not rows or any(len(r) != len(rows[0]) or (r != rows[0]).any() for r in rows[1:]):
            raise ValueError("parts of other rows of the source are not aligned")
        self.parts = dict(parts)

    @classmethod
    def open(
        cls, source: Source, columns: Mapping[str, str], modality, *, max_bad: float = 0.01, progress: Progress | None = None
    ) -> Aligned:  # fmt: skip
        """The columns {role: column} of `source`, each packed as `modality` has it; rows that are bad in any are left out of all.

        Raises RequestError for a column that is not there, DataError where too many rows are bad or none is left."""
        whole = {
            role: Dataset.open(source, column, modality, max_bad=max_bad, progress=progress)
            for role, column in columns.items()
        }
        usable = [part.source_rows() for part in whole.values()]
        common = usable[0]
        for rows in usable[1:]:
            common = np.intersect1d(common, rows)
        if not len(common):
            raise DataError(f"{source.name} has no row that can be read in all of {', '.join(columns.values())}.")
        return cls({role: part.subset(np.isin(part.source_rows(), common)) for role, part in whole.items()})

    @property
    def first(self) -> Dataset:
        """The first part, which stands for the rows."""
        return next(iter(self.parts.values()))

    @property
    def modality(self):
        return self.first.modality

    def __len__(self) -> int:
        return len(self.first)

    def subset(self, index: np.ndarray | Sequence[int]) -> Aligned:
        """The rows `index` (places, or bool)."""
        return Aligned({role: part.subset(index) for role, part in self.parts.items()})

    def fetch(self, index: np.ndarray | Sequence[int]) -> dict[str, View]:
        """{role: the raw view of the rows `index`}."""
        return {role: part.fetch(index) for role, part in self.parts.items()}

    def labels(self, column: str | None = None, kind=None) -> Labels:
        """As `Dataset.labels`."""
        return self.first.labels(column, kind)

    def contents(self, role: str) -> np.ndarray:
        """(rows,) the cells of a part as they stand in the source: for finding copies."""
        part = self.parts[role]
        return part.source.values(part.column)[part.source_rows()]
