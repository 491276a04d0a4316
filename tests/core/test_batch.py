"""View, Ragged and Tokens: rows and tokens are picked together with all that belongs to them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import Batch, Ragged, Target, Tokens, View

lists = st.lists(st.lists(st.integers(-99, 99), max_size=6), min_size=1, max_size=6)


def ragged(rows: list[list[int]]) -> Ragged:
    offsets = torch.tensor([0] + [len(r) for r in rows]).cumsum(0)
    return Ragged(torch.tensor([v for r in rows for v in r], dtype=torch.int64), offsets)


def rows_of(r: Ragged) -> list[list[int]]:
    return [r.values[a:b].tolist() for a, b in zip(r.offsets[:-1], r.offsets[1:], strict=True)]


@given(lists, st.data())
def test_ragged_take(rows, data):
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = ragged(rows).take(torch.tensor(picked, dtype=torch.int64))
    assert rows_of(taken) == [rows[i] for i in picked]
    assert len(taken) == len(picked)


@given(lists, st.integers(0, 8))
def test_ragged_pad(rows, length):
    values, valid = ragged(rows).pad(-7, length or None)
    width = length or max(map(len, rows))
    assert values.tolist() == [(r + [-7] * width)[:width] for r in rows]
    assert valid.tolist() == [[i < len(r) for i in range(width)] for r in rows]


def test_view_take_keeps_parts_and_params_together():
    view = View(
        "series",
        parts={"values": torch.arange(12.0).view(4, 3), "r": ragged([[1], [2, 3], [], [4]])},
        params={"box": torch.arange(4)},
    )
    by_index, by_mask = view.take(torch.tensor([3, 1])), view.take(torch.tensor([False, True, False, True]))
    assert by_index["values"].tolist() == [[9, 10, 11], [3, 4, 5]]
    assert rows_of(by_index.parts["r"]) == [[4], [2, 3]]
    assert by_index.params["box"].tolist() == [3, 1]
    assert by_mask.params["box"].tolist() == [1, 3]
    assert len(by_index) == 2


def test_with_parts_copies():
    view = View("image", parts={"pixels": torch.zeros(2, 1, 4, 4)})
    assert "masked" in view.with_parts(masked=torch.ones(2, 4)).parts
    assert "masked" not in view.parts


def test_view_cat_joins_parts_and_params():
    def make(n, shift):
        pixels, flip = torch.full((n, 1, 2, 2), shift), torch.full((n,), shift)
        return View("image", parts={"pixels": pixels}, params={"flip": flip})

    joined = View.cat([make(2, 1.0), replace(make(3, 2.0), params={**make(3, 2.0).params, "hue": torch.zeros(3)})])
    assert joined.params.keys() == {"flip"}
    assert joined["pixels"][:, 0, 0, 0].tolist() == joined.params["flip"].tolist() == [1, 1, 2, 2, 2]
    assert joined.shapes == make(1, 0.0).shapes
    with pytest.raises(ValueError, match="differ"):
        View.cat([make(2, 1.0), View("image", parts={"pixels": torch.zeros(2, 1, 3, 3)})])


def test_batch_of_role_keeps_order():
    views = [View("image", "local", params={"n": torch.tensor([i])}) for i in range(3)]
    batch = Batch([views[0], View("image", "global"), *views[1:]], torch.arange(1))
    assert [int(v.params["n"]) for v in batch.of("local")] == [0, 1, 2]
    assert len(batch.of("global")) == 1


def test_batches_carry_no_labels():
    assert not {"labels", "targets", "label", "target"} & set(Batch.__dataclass_fields__)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2), st.data())
def test_tokens_take(rows, count, prefix, data):
    total = count + prefix
    kept = data.draw(st.integers(1, count))
    keep = torch.tensor([data.draw(st.permutations(range(count)))[:kept] for _ in range(rows)])
    values = torch.arange(rows * total * 2.0).view(rows, total, 2)
    valid = torch.arange(rows * total).view(rows, total) % 3 != 0
    segment = torch.arange(rows * total).view(rows, total) // 2
    taken = Tokens(values, valid, None, segment, (count,), prefix).take(keep)
    unpacked = Tokens(values, prefix=prefix).take(keep)
    for r in range(rows):
        places = [*range(prefix), *(keep[r] + prefix).tolist()]
        assert torch.equal(taken.values[r], values[r, places])
        assert torch.equal(taken.valid[r], valid[r, places])
        assert torch.equal(taken.segment[r], segment[r, places])
        assert unpacked.position[r].tolist() == [0] * prefix + keep[r].tolist()
    assert taken.grid is None
    assert taken.prefix == prefix


def test_tokens_take_carries_given_positions():
    tokens = Tokens(torch.zeros(1, 4, 2), position=torch.tensor([[5, 6, 0, 1]]))
    assert tokens.take(torch.tensor([[2, 0]])).position.tolist() == [[0, 5]]


def test_tokens_of_packed_documents_keep_their_place_within_the_document():
    segment = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 2]])
    tokens = Tokens(torch.zeros(2, 6, 1), segment=segment)
    assert tokens.place.tolist() == [[0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 3, 0]]
    assert tokens.take(torch.tensor([[1, 4, 5], [0, 2, 5]])).position.tolist() == [[1, 1, 2], [0, 1, 0]]
    assert Tokens(torch.zeros(2, 6, 1), segment=segment, prefix=1).place[:, 1:].tolist() == [
        [0, 1, 0, 1, 2],
        [0, 1, 2, 3, 0],
    ]
    assert Tokens(torch.zeros(2, 6, 1)).place is None


def test_tokens_mean_counts_valid_patches_only():
    values = torch.tensor([[[100.0], [1.0], [3.0], [50.0]], [[100.0], [2.0], [2.0], [2.0]]])
    valid = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert Tokens(values, valid, prefix=1).mean().tolist() == [[2.0], [0.0]]
    assert Tokens(values, None, prefix=1).mean().tolist() == [[18.0], [2.0]]


def test_target_outputs():
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert Target("class", torch.zeros(1, 2, dtype=torch.int64), valid, classes=11).outputs == 11
    assert Target("value", torch.zeros(1, 2, 5), valid, width=5).outputs == 5
