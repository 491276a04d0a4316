"""Packing: every token once, nothing longer than a sequence, documents in order, best fit as it is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.data.packing import SMALLEST, plan

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=40)
WAYS = st.sampled_from(["isolated", "bos_bestfit"])


def laid_out(made) -> list[list[tuple]]:
    """The sequences place by place: ("begin",), ("end",), (row, token) or ("join",); None where nothing stands."""
    out = []
    for p in range(len(made)):
        places: list = [None] * made.context
        for place, length, ends in made.pieces[made.piece_of[p] : made.piece_of[p + 1]]:
            for i in range(place, place + length):
                assert places[i] is None
                places[i] = ("join",)
            places[place] = ("begin",)
            if ends:
                places[place + length - 1] = ("end",)
        for row, first, count, place in made.spans[made.span_of[p] : made.span_of[p + 1]]:
            for i in range(count):
                assert places[place + i] == ("join",)
                places[place + i] = (int(row), int(first + i))
        out.append(places)
    return out


@settings(deadline=None, max_examples=150)
@given(LENGTHS, st.integers(4, 40), WAYS)
def test_every_token_stands_once_and_every_document_ends_once(lengths, context, way):
    places = [x for p in laid_out(plan(np.array(lengths), context, way)) for x in p]
    tokens = [x for x in places if x and len(x) == 2]
    assert sorted(tokens) == [(r, t) for r, n in enumerate(lengths) for t in range(n)]
    assert places.count(("end",)) == len(lengths)
    assert ("join",) not in places


@settings(deadline=None, max_examples=150)
@given(LENGTHS, st.integers(4, 40), WAYS)
def test_within_a_piece_tokens_follow_one_another_and_an_end_follows_the_last(lengths, context, way):
    for places in laid_out(plan(np.array(lengths), context, way)):
        before = None
        for x in places:
            if x and len(x) == 2:
                assert before == ("begin",) or before == (x[0], x[1] - 1)
            if x == ("end",):
                assert before is not None
                assert before[1] == lengths[before[0]] - 1
            before = x


@settings(deadline=None, max_examples=100)
@given(LENGTHS, st.integers(2 * SMALLEST, 60))
def test_bos_bestfit_leaves_at_most_a_few_places_but_in_the_last_sequence(lengths, context):
    sequences = laid_out(plan(np.array(lengths), context, "bos_bestfit"))
    assert all(p[0] == ("begin",) for p in sequences)
    assert all(p.count(None) < SMALLEST for p in sequences[:-1])


def test_best_fit_of_a_known_case():
    made = plan(np.array([6, 3, 2, 5]), 10, "isolated")  # 8, 5, 4, 7 places with marks: 8 | 7 | 5 + 4
    held = [sorted({x[0] for x in p if x and len(x) == 2}) for p in laid_out(made)]
    assert sorted(held) == [[0], [1, 2], [3]]
    assert made.filled == pytest.approx(24 / 30)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=30), st.integers(4, 24), WAYS)
def test_rows_of_one_document_follow_one_another_with_a_join_between(rows, context, way):
    lengths, documents = np.array([n for n, _ in rows]), np.array([d for _, d in rows])
    sequences = laid_out(plan(lengths, context, way, documents=documents, join=1))
    texts: dict[int, list] = {}
    for d in sorted(set(documents.tolist())):
        wanted: list = []
        for r in np.flatnonzero(documents == d):
            wanted += [("join",)] * bool(wanted) + [(int(r), t) for t in range(lengths[r])]
        texts[d] = wanted
    held = [x for p in sequences for x in p if x is not None and x not in (("begin",), ("end",))]
    assert len(held) == sum(map(len, texts.values()))
    for places in sequences:  # each piece is a stretch of its document
        piece: list = []
        for x in [*places, ("begin",)]:
            if x == ("begin",):
                named = [y for y in piece if len(y) == 2]
                if named:
                    whole = texts[int(documents[named[0][0]])]
                    assert any(whole[i : i + len(piece)] == piece for i in range(len(whole)))
                piece = []
            elif x is not None and x != ("end",):
                piece.append(x)


def test_an_order_changes_the_neighbours_and_not_what_is_packed():
    lengths = np.full(50, 5)
    a = plan(lengths, 21, "bos_bestfit")
    b = plan(lengths, 21, "bos_bestfit", order=np.random.default_rng(0).permutation(50))
    assert not np.array_equal(a.spans, b.spans)
    assert sorted(a.spans[:, 0]) == sorted(b.spans[:, 0])


def test_nothing_and_what_cannot_be_packed():
    assert len(plan(np.zeros(0, np.int64), 8, "isolated")) == 0
    with pytest.raises(ValueError, match="context 3"):
        plan(np.array([4]), 3, "isolated")
    with pytest.raises(ValueError, match="padded"):
        plan(np.array([4]), 8, "padded")
