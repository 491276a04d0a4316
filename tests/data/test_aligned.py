import numpy as np
import pytest

from selftaught.core import DataError
from selftaught.data import Aligned, open_source
from selftaught.modalities.text import Text


def opened(first, second, **more):
    source = open_source({"a": first, "b": second, **more})
    kind = Text.fit(open_source([t for t in first if t.strip()]), "text", size=16)
    return Aligned.open(source, {"first": "a", "second": "b"}, kind, max_bad=1.0)


LONG = [f"this is the sentence with number {k} of these" for k in range(6)]


def test_rows_that_are_bad_in_one_column_are_left_out_of_both():
    pairs = opened([*LONG[:2], "  ", *LONG[3:]], [*LONG[::-1][:4], " ", LONG[0]], score=[0.0, 1, 2, 3, 4, 5.5])
    assert len(pairs) == 4
    assert pairs.labels("score").values.tolist() == [0, 1, 3, 5.5]
    assert pairs.contents("first").tolist() == [LONG[0], LONG[1], LONG[3], LONG[5]]
    assert pairs.contents("second").tolist() == [LONG[5], LONG[4], LONG[2], LONG[0]]
    views = pairs.fetch(np.array([3, 0]))
    for role, texts in (("first", [LONG[5], LONG[0]]), ("second", [LONG[0], LONG[5]])):
        assert [pairs.modality.text_of(row) for row in views[role]["ids"]] == texts
    some = pairs.subset(np.array([2, 0]))
    assert some.contents("second").tolist() == [LONG[2], LONG[5]]
    assert some.labels("score").values.tolist() == [3, 0]


def test_nothing_in_common_is_an_error():
    with pytest.raises(DataError, match="no row that can be read in all of a, b"):
        opened([*LONG[:3], " ", " ", " "], [" ", " ", " ", *LONG[3:]])


def test_parts_of_other_rows_are_no_pairs():
    pairs = opened(LONG, LONG[::-1])
    with pytest.raises(ValueError, match="not aligned"):
        Aligned({"first": pairs.parts["first"].subset([0, 1]), "second": pairs.parts["second"].subset([1, 0])})
