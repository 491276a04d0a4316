"""Retrieval: rows of the same class as a query, found among the nearest rows; nothing is trained.

selftaught search RUN DATA queries.csv -k 10 -o hits.parquet finds the nearest rows of DATA to each query, exactly, by cosine: rank, row and score (and the text).
DATA may be what selftaught embed wrote, so that a collection is embedded once.  selftaught evaluate describes retrieval wherever there are classes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import measures
from ..core.errors import RequestError
from ..core.task import Task


class Retrieve(Task):
    """Nearest rows by cosine; mAP@R and recall at 1, 5 and 10 over queries.

    Queries are test rows, the gallery is the labelled rows outside the test set.  No label is used but to score.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "nothing"
    aliases: ClassVar = ("retrieval", "search")
    metric: str = "map@r"
    """What decides: mean average precision at R, R being the rows of the query's class in the gallery."""
    at: tuple[int, ...] = (1, 5, 10)
    """Recall is given among so many nearest rows."""

    @property
    def outputs(self) -> int:
        return 0

    def head(self, dim: int):
        raise RequestError("Retrieval trains no head.", "Finetune with --task classify, multilabel or regress.")

    def rank(
        self, queries: np.ndarray, labels: np.ndarray, gallery: np.ndarray, held: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """({figure: (Q,) of each query}, (Q,) which queries count) of features queries (Q, D) and gallery (N, D) with their classes."""
        found, counted = measures.retrieve(queries, gallery, labels, held, at=self.at)
        return {self.metric: found[self.metric], **found}, counted
