"""Pairs of texts: what stands where, how much is cut, and that a row's pair is its own."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw, View
from selftaught.views.pairs import pairs, shortened
from selftaught.views.text import BEGIN, END, PAD

from .test_text import raw, rows_of

rows = st.lists(st.lists(st.integers(4, 99), min_size=1, max_size=30), min_size=1, max_size=6)


def parts(view: View) -> list[tuple[list[int], list[int]]]:
    """(A, B) of each row, after the layout was checked."""
    out = []
    for ids, kind in zip(rows_of(view), view["type"], strict=True):
        assert ids[0] == BEGIN
        assert ids[-1] == END
        middle = ids.index(END)
        assert ids.count(END) == 2
        assert kind[: len(ids)].tolist() == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
        assert (kind[len(ids) :] == 0).all()
        out.append((ids[1:middle], ids[middle + 1 : -1]))
    assert (view["ids"][~view["valid"]] == PAD).all()
    return out


def inside(piece: list[int], whole: list[int]) -> bool:
    return any(whole[i : i + len(piece)] == piece for i in range(len(whole) - len(piece) + 1))


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(8, 40), st.integers(0, 99))
def test_a_cut_row_is_followed_by_its_rest_or_by_another_document(texts, context, seed):
    others = [[x + 1000 for x in t] for t in texts[::-1]]
    view = pairs(raw(texts), raw(others), context, Draw(torch.arange(len(texts)), seed))
    for text, other, (a, b), follows in zip(texts, others, parts(view), view.params["follows"].tolist(), strict=True):
        assert a
        assert b
        assert inside(a, text)
        assert inside(b, text if follows else other)
        assert len(a) + len(b) + 3 <= context
        assert not (follows and len(text) == 1)
        if follows and len(text) + 3 <= context:
            assert a + b == text


@settings(deadline=None, max_examples=40)
@given(rows, st.integers(0, 99))
def test_a_pair_is_the_same_whatever_stands_beside_it(texts, seed):
    index = torch.arange(len(texts)) * 5 + 1
    others = texts[::-1]
    together = rows_of(pairs(raw(texts, 3), raw(others), 16, Draw(index, seed)))
    alone = [rows_of(pairs(raw([t]), raw([o]), 16, Draw(index[i : i + 1], seed)))[0] for i, (t, o) in enumerate(zip(texts, others, strict=True))]  # fmt: skip
    assert together == alone


def test_half_follow_and_length_does_not_tell():
    texts = [[4 + i % 50 for i in range(n % 25 + 6)] for n in range(4000)]
    view = pairs(raw(texts), raw([[99] * 40] * 4000), 64, Draw(torch.arange(4000), 1))
    follows = view.params["follows"]
    assert abs(follows.float().mean() - 0.5) < 0.04
    length = torch.tensor([len(b) for _, b in parts(view)]).float()
    assert abs(length[follows].mean() - length[~follows].mean()) < 5 * length.std() / 2000**0.5


def test_rows_of_documents_are_followed_by_the_next_unless_there_is_none():
    first, following, others = [[4, 5]] * 200, [[6, 7, 8]] * 200, [[90, 91, 92, 93]] * 200
    after = View("text", parts=raw(following).parts, params={"follows": torch.arange(200) % 4 > 0})
    view = pairs(raw(first), raw(others), 32, Draw(torch.arange(200)), following=after)
    assert not view.params["follows"][::4].any()
    for (a, b), follows in zip(parts(view), view.params["follows"].tolist(), strict=True):
        assert a == [4, 5]
        assert b == ([6, 7, 8] if follows else [90, 91, 92, 93])


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(4, 40))
def test_lengths_are_those_of_cutting_token_by_token(m, n, longest):
    a, b = (torch.arange(1, 41)[None], torch.tensor([m])), (torch.arange(101, 141)[None], torch.tensor([n]))
    (ids, k), (others, j) = shortened(a, b, longest, Draw(torch.tensor([m * 100 + n])))
    wanted = [m, n]
    while sum(wanted) > longest:  # the longer loses one; of two as long the second
        wanted[0 if wanted[0] > wanted[1] else 1] -= 1
    assert [int(k), int(j)] == wanted
    for row, kept, start, count in ((ids, k, 1, m), (others, j, 101, n)):
        held = row[0, : int(kept)].tolist()
        assert held == list(range(held[0], held[0] + len(held)))
        assert start <= held[0]
        assert held[-1] < start + count


def test_front_and_back_lose_alike():
    rows = 4000
    a = (torch.arange(30).expand(rows, -1), torch.full((rows,), 30))
    (ids, _), _ = shortened(a, a, 40, Draw(torch.arange(rows)))
    front = ids[:, 0].double()  # of ten coins
    assert abs(front.mean() - 5) < 5 * (2.5 / rows) ** 0.5
    assert abs(front.var() - 2.5) < 0.3
