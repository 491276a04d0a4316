"""The sampler and the loader: pure functions of (seed, step), whatever the threads, ranks and starting point."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError
from selftaught.data import Dataset, Loader, Sampler
from selftaught.data.loader import Partners

from .small import Letters, Picture, pixels


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    return Dataset.from_arrays(pixels(37), Picture())


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 300), batch=st.integers(1, 64), seed=st.integers(0, 2**40))
def test_every_row_at_most_once_an_epoch(rows, batch, seed):
    batch = min(batch, rows)
    sampler = Sampler(rows, batch, seed)
    for epoch in range(2):
        seen = torch.cat([sampler.places(epoch * sampler.per_epoch + k) for k in range(sampler.per_epoch)])
        assert len(seen) == rows // batch * batch
        assert len(set(seen.tolist())) == len(seen)
        assert set(seen.tolist()) <= set(range(rows))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(8, 200), seed=st.integers(0, 1000), world=st.sampled_from([1, 2, 4, 8]), step=st.integers(0, 500)
)
def test_ranks_cut_the_batch_into_contiguous_slices(rows, seed, world, step):
    dataset = Dataset.from_arrays(pixels(rows, 2), Picture(2))
    whole = Loader(dataset, batch=8, seed=seed).step(step)
    parts = [Loader(dataset, batch=8, seed=seed, rank=r, world=world).step(step) for r in range(world)]
    assert torch.equal(torch.cat([index for _, index, _ in parts]), whole[1])
    assert torch.equal(torch.cat([views["one"]["pixels"] for _, _, views in parts]), whole[2]["one"]["pixels"])


def test_another_rest_is_left_out_each_epoch_and_another_order_holds():
    sampler = Sampler(10, 4, 3)
    left = [
        set(range(10)) - set(torch.cat([sampler.places(2 * e), sampler.places(2 * e + 1)]).tolist()) for e in range(20)
    ]
    assert all(len(rest) == 2 for rest in left)
    assert len({frozenset(rest) for rest in left}) > 5
    assert sampler.order(0).tolist() != sampler.order(1).tolist()
    assert Sampler(10, 4, 3).order(1).tolist() == sampler.order(1).tolist()
    assert Sampler(10, 4, 4).order(1).tolist() != sampler.order(1).tolist()


def same(a, b) -> bool:
    return all(
        x[0] == y[0]
        and torch.equal(x[1], y[1])
        and all(torch.equal(x[2][k][p], y[2][k][p]) for k in x[2] for p in x[2][k].parts)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("stream", [False, True])
def test_thread_counts_change_no_batch(tmp_path, stream):
    from selftaught.data import open_source

    from .small import picture_folder

    picture_folder(tmp_path, 37)
    dataset = Dataset.open(open_source(tmp_path), "image", Picture(), stream=stream)
    found = []
    for threads in (0, 1, 2, 5):
        with Loader(dataset, batch=8, seed=1, threads=threads, rows=("one", "next")) as loader:
            found.append(list(islice(loader, 11)))
    assert [step for step, _, _ in found[0]] == list(range(11))
    assert all(same(found[0], other) for other in found[1:])


def test_starting_later_gives_the_same_batches_and_reads_nothing_before(pictures):
    fetched = []

    class Watched(Dataset):
        def rows(self, index):
            fetched.append(len(index))
            return super().rows(index)

    dataset = Watched(pictures.modality, pictures.source, pictures.column, pictures._held)
    straight = list(islice(Loader(pictures, batch=8, seed=2, threads=0), 23))
    late = list(islice(Loader(dataset, batch=8, seed=2, threads=0, start_step=20), 3))
    assert same(straight[20:], late)
    assert len(fetched) == 3


def test_index_is_the_stable_id_and_the_view_that_row(pictures):
    few = pictures.subset(np.arange(10, 30))
    for _, index, views in islice(Loader(few, batch=5, seed=0, threads=2), 8):
        assert set(index.tolist()) <= set(range(10, 30))
        assert torch.equal(views["one"]["pixels"], pictures.fetch(index)["pixels"])


def test_iterations_are_independent_and_end_when_left(pictures):
    loader = Loader(pictures, batch=8, seed=0, threads=2)
    first, second = iter(loader), iter(loader)
    a, b = list(islice(first, 3)), list(islice(second, 3))
    assert same(a, b)
    assert 0 <= loader.wait <= 1
    loader.close()
    with pytest.raises(StopIteration):
        next(first)


def test_an_error_in_a_thread_reaches_the_caller(pictures):
    class Broken(Dataset):
        def fetch(self, index):
            raise OSError("the disk is gone")

    dataset = Broken(pictures.modality, pictures.source, pictures.column, pictures._held)
    with Loader(dataset, batch=8, threads=2) as loader, pytest.raises(OSError, match="disk is gone"):
        next(iter(loader))


groupings = st.lists(st.integers(0, 6), min_size=2, max_size=40).map(np.array)


@settings(max_examples=60, deadline=None)
@given(groups=groupings, bits=st.integers(-(2**63), 2**63 - 1))
def test_partner_rows_keep_to_their_groups(groups, bits):
    rows = len(groups)
    partners = Partners(rows, groups)
    places = torch.arange(rows)
    draw = torch.full((rows,), bits)
    size = np.bincount(groups)[groups]
    nxt, mate, other = (partners.of(kind, places, draw).numpy() for kind in ("next", "same group", "other document"))
    assert (groups[nxt] == groups).all()
    assert (groups[mate] == groups).all()
    assert ((mate != np.arange(rows)) | (size == 1)).all()
    if len(set(groups.tolist())) > 1:
        assert (groups[other] != groups).all()
    for i in range(rows):
        later = [j for j in range(rows) if groups[j] == groups[i] and j > i]
        assert nxt[i] == (later[0] if later else min(j for j in range(rows) if groups[j] == groups[i]))


def test_partners_without_groups_and_their_spread():
    partners = Partners(50, None)
    places = torch.arange(50)
    assert partners.of("next", places, places).tolist() == [*range(1, 50), 0]
    draw = torch.randint(-(2**62), 2**62, (50,), generator=torch.Generator().manual_seed(0))
    other = partners.of("other document", places, draw)
    assert (other != places).all()
    assert len(set(other.tolist())) > 20


def test_partner_views_are_the_partners_rows():
    texts = [f"document {i // 4} line {i}" for i in range(20)]
    dataset = Dataset.from_arrays(texts, Letters(), columns={"document": np.arange(20) // 4})
    rows = ("one", "next", "other document", "same group")
    _, index, views = Loader(dataset, batch=20, seed=0, rows=rows).step(0)

    def spelled(kind):
        view = views[kind]
        return [
            "".join(chr(c) for c, v in zip(r.tolist(), ok.tolist(), strict=True) if v)
            for r, ok in zip(view["ids"], view["valid"], strict=True)
        ]

    assert spelled("one") == [texts[i] for i in index.tolist()]
    assert spelled("next") == [texts[i + 1 if (i + 1) % 4 else i - 3] for i in index.tolist()]
    assert all(a.split()[1] != b.split()[1] for a, b in zip(spelled("one"), spelled("other document"), strict=True))
    assert all(
        a.split()[1] == b.split()[1] and a != b for a, b in zip(spelled("one"), spelled("same group"), strict=True)
    )


def test_the_next_row_says_whether_it_follows(pictures):
    groups = np.arange(37) // 5
    for _, index, views in islice(Loader(pictures, batch=8, rows=("one", "next"), groups=groups), 3):
        wanted = [i + 1 < 37 and groups[i + 1] == groups[i] for i in index.tolist()]
        assert views["next"].params["follows"].tolist() == wanted
        assert "follows" not in views["one"].params


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch": 38}, "cannot be drawn from 37"),
        ({"batch": 9, "world": 2}, "cannot be cut for 2"),
        ({"batch": 8, "rows": ("same group",)}, "have no groups"),
        ({"batch": 8, "rows": ("other document",), "groups": np.zeros(37)}, "one only"),
        ({"batch": 8, "rows": ("next",), "groups": np.arange(37)}, "alone in its group"),
    ],
)
def test_what_cannot_be_loaded_says_why(pictures, options, match):
    with pytest.raises(RequestError, match=match) as caught:
        Loader(pictures, **options)
    assert caught.value.remedy


def test_unknown_partner_rows_are_a_programmers_error(pictures):
    with pytest.raises(ValueError, match="previous"):
        Loader(pictures, batch=8, rows=("previous",))
