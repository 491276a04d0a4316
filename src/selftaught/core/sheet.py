"""Sheet: what a method or an encoder has to show to a person, as plain values; train/sheets.py draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from torch import Tensor

from .batch import View


@dataclass(frozen=True)
class Sheet:
    """Rows of examples, a column for each way of seeing them.

    columns: {heading: view of B rows, pixels (B, C, H, W) in 0-1 or uint8, values (B, C, L), or mel (B, T, F) with length}; NaN is drawn as "nothing here".
    A view that the modality draws otherwise (a wave) is what its `seen` makes of it.  Series and energies of one row share their scale, so that columns can be compared.
    """

    name: str
    """The file's name, without its ending."""
    title: str
    caption: str
    """In plain words: what each column is, and what a good one looks like."""
    columns: dict[str, View]
    words: dict[str, list[str]] = field(default_factory=dict)
    """{heading: B short texts, set under the pictures of that column}."""
    right: dict[str, Tensor] = field(default_factory=dict)
    """{heading: (B,) bool}: whether the guess that the words tell is right."""
    headed: bool = True
    """Whether headings say something; else they only number the columns."""

    def __post_init__(self):
        rows = {*map(len, self.columns.values()), *map(len, self.words.values()), *map(len, self.right.values())}
        if len(rows) != 1:
            raise ValueError(f"the columns of the sheet {self.name!r} differ in length: {sorted(rows)}")
        if not self.words.keys() | self.right.keys() <= self.columns.keys():
            raise ValueError(f"the sheet {self.name!r} has words for a column that it has not")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @classmethod
    def repainted(cls, saw: View, painted: View, truth: View, about: str) -> Self:
        """What the network was shown, what it painted, and the truth; `about` says how the first was made."""
        return cls(
            "reconstruction", "What it paints", f"{about} Left: what it saw; middle: what it painted; right: the truth.",
            {"saw": saw, "painted": painted, "truth": truth},
        )  # fmt: skip
