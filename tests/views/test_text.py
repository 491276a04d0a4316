"""Views of text: marks, excerpts, deletions, exchanges and masks, judged on what they did to each row."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selftaught.core import Draw, View
from selftaught.views.text import BEGIN, END, MASK, PAD, Excerpt, exchange, mask_tokens, without


def rows_of(view: View) -> list[list[int]]:
    return [ids[valid].tolist() for ids, valid in zip(view["ids"], view["valid"], strict=True)]


def raw(rows: list[list[int]], extra: int = 0) -> View:
    width = max(map(len, rows)) + extra
    ids = torch.tensor([r + [PAD] * (width - len(r)) for r in rows])
    return View(
        "text", parts={"ids": ids, "valid": torch.arange(width) < torch.tensor([len(r) for r in rows])[:, None]}
    )


texts = st.lists(st.lists(st.integers(4, 99), min_size=1, max_size=30), min_size=1, max_size=5)
excerpts = st.builds(
    Excerpt, st.integers(4, 24), st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.1, 0.3)]), head=st.booleans(),
    delete=st.sampled_from([0.0, 0.3, 1.0]), swap=st.sampled_from([0.0, 0.5, 1.0]), least=st.integers(1, 6),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(texts, excerpts, st.integers(0, 99))
def test_every_excerpt_is_marked_nonempty_and_padded_right(rows, excerpt, seed):
    out = excerpt(raw(rows), Draw(torch.arange(len(rows)), seed))
    for source, shown, ids, valid in zip(rows, rows_of(out), out["ids"], out["valid"], strict=True):
        ends = shown[-1] == END
        body = shown[1 : len(shown) - ends]
        assert shown[0] == BEGIN
        assert 1 <= len(body) <= excerpt.context - 2
        assert set(body) <= set(source)
        assert valid.tolist() == sorted(valid.tolist(), reverse=True)
        assert (ids[~valid] == PAD).all()
    assert out["valid"].any(0).all()  # no column that is padding alone


@settings(deadline=None, max_examples=60)
@given(texts, excerpts, st.integers(0, 99), st.integers(0, 5))
def test_a_row_is_seen_the_same_whatever_stands_beside_it(rows, excerpt, seed, extra):
    index = torch.arange(len(rows)) * 7 + 3
    together = rows_of(excerpt(raw(rows, extra), Draw(index, seed, 5, 1)))
    alone = [rows_of(excerpt(raw([r]), Draw(index[i : i + 1], seed, 5, 1)))[0] for i, r in enumerate(rows)]
    assert together == alone


@settings(deadline=None, max_examples=40)
@given(texts, st.integers(4, 24), st.booleans(), st.integers(0, 99))
def test_an_untouched_excerpt_is_a_run_of_the_row_and_its_params_say_which(rows, context, head, seed):
    out = Excerpt(context, (0.3, 0.9), head=head)(raw(rows), Draw(torch.arange(len(rows)), seed))
    for row, shown, start, span in zip(
        rows, rows_of(out), out.params["start"].tolist(), out.params["span"].tolist(), strict=True
    ):
        assert shown == [BEGIN, *row[start : start + span]] + [END] * (start + span == len(row))
        assert start == 0 or not head


def test_whole_rows_are_whole_and_longer_rows_are_cropped_everywhere():
    assert rows_of(Excerpt(8)(raw([[5, 6, 7], [9]]), Draw(torch.arange(2)))) == [[1, 5, 6, 7, 2], [1, 9, 2]]
    long = raw([list(range(4, 24))] * 4000)
    start = Excerpt(12)(long, Draw(torch.arange(4000))).params["start"]
    assert sorted(set(start.tolist())) == list(range(11))
    assert stats.chisquare(torch.bincount(start, minlength=11)).pvalue > 1e-4
    assert Excerpt(12, head=True)(long, Draw(torch.arange(4000))).params["start"].max() == 0


def test_views_and_steps_and_rows_draw_different_excerpts():
    view, pick = raw([list(range(4, 104))] * 8), Excerpt(12)
    index = torch.arange(8)
    starts = [pick(view, d).params["start"].tolist() for d in (Draw(index), Draw(index, view=1), Draw(index, step=1), Draw(index, seed=1))]  # fmt: skip
    assert len({tuple(s) for s in starts}) == 4
    assert len(set(starts[0])) > 3


def test_share_of_deleted_tokens_and_order_of_the_rest():
    rows = [list(range(4, 104))] * 200
    shown = [r[1:-1] for r in rows_of(Excerpt(128, delete=0.3)(raw(rows), Draw(torch.arange(200))))]
    assert all(r == sorted(r) for r in shown)
    kept = sum(map(len, shown))
    low, high = stats.binom.interval(1 - 1e-6, 20_000, 0.7)
    assert low <= kept <= high


def test_exchanged_neighbours_stay_neighbours_and_nothing_is_lost():
    rows = [list(range(4, 24))] * 300
    shown = [r[1:-1] for r in rows_of(Excerpt(128, swap=0.5)(raw(rows), Draw(torch.arange(300))))]
    assert all(sorted(r) == rows[0] for r in shown)
    assert all(abs(v - 4 - place) <= 1 for r in shown for place, v in enumerate(r))
    moved = sum(v - 4 != place for r in shown for place, v in enumerate(r))
    low, high = stats.binom.interval(1 - 1e-6, 300 * 19 // 2, 0.5)  # half the rows have ten pairs, half nine
    assert 2 * low * 0.97 <= moved <= 2 * high * 1.03


def test_exchange_and_deletion_leave_padding_where_it_is():
    ids = torch.tensor([[5, 6, 7, PAD], [8, 9, PAD, PAD]])
    inside = ids != PAD
    every = torch.ones_like(inside)
    assert exchange(ids, inside, every, torch.tensor([0, 0])).tolist() == [[6, 5, 7, PAD], [9, 8, PAD, PAD]]
    assert exchange(ids, inside, every, torch.tensor([1, 1])).tolist() == [[5, 7, 6, PAD], [8, 9, PAD, PAD]]
    number = torch.tensor([[0.1, 0.9, 0.2, 0.99], [0.3, 0.2, 0.99, 0.99]])
    left, inside = without(ids, inside, every, number)
    assert left.tolist() == [[6], [8]]
    assert inside.all()


def test_masks_follow_80_10_10_and_touch_neither_marks_nor_others():
    rows, width, vocabulary = 400, 50, 30
    ids = torch.randint(4, vocabulary, (rows, width), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 40], ids[:, 41:] = BEGIN, END, PAD
    chosen = torch.rand(rows, width, generator=torch.Generator().manual_seed(1)) < 0.5
    out = mask_tokens(ids, chosen, vocabulary, Draw(torch.arange(rows)))
    able = chosen & (ids >= 4)
    assert torch.equal(out[~able], ids[~able])
    count, masked = int(able.sum()), int((out[able] == MASK).sum())
    replaced = out[able & (out != MASK) & (out != ids)]
    low, high = stats.binom.interval(1 - 1e-6, count, 0.8)
    assert low <= masked <= high
    low, high = stats.binom.interval(1 - 1e-6, count, 0.1 * (1 - 1 / 26))  # one draw in 26 hits the token itself
    assert low <= len(replaced) <= high
    assert replaced.min() >= 4
    assert replaced.max() < vocabulary
    assert stats.chisquare(torch.bincount(replaced, minlength=vocabulary)[4:]).pvalue > 1e-4


def test_masks_of_a_row_do_not_depend_on_padding_and_change_with_the_step():
    ids = torch.arange(4, 44)[None]
    every = torch.ones(1, 40, dtype=torch.bool)
    short = mask_tokens(ids, every, 50, Draw(torch.tensor([9])))
    padded = mask_tokens(
        torch.nn.functional.pad(ids, (0, 7)), torch.ones(1, 47, dtype=torch.bool), 50, Draw(torch.tensor([9]))
    )
    assert torch.equal(padded[:, :40], short)
    assert (padded[:, 40:] == PAD).all()
    assert not torch.equal(mask_tokens(ids, every, 50, Draw(torch.tensor([9]), step=1)), short)
