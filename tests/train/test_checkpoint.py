"""Checkpoints: whole or noticed, whatever is done to their bytes."""

import json
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selftaught.core.errors import DataError, ModelError
from selftaught.train import checkpoint

PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
TENSORS = st.builds(
    lambda shape, dtype, seed: torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bfloat16, torch.bool]),
    st.integers(0, 99),
)
TREES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=6) | st.integers(0, 9), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def raw(x):
    return x.contiguous().reshape(-1).view(torch.uint8)


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(raw(a), raw(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b and type(a) is type(b)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(st.text(max_size=6), TREES, max_size=4), step=st.integers(0, 10**7))
def test_any_tree_comes_back(tmp_path, tree, step):
    folder = tmp_path / str(step)
    checkpoint.save(folder, step, tree)
    back = checkpoint.newest(folder)
    assert back[0] == step
    assert equal(tree, back[1])


def two(folder):
    checkpoint.save(folder, 1, {"w": torch.arange(6.0), "note": "first"})
    return checkpoint.save(folder, 2, {"w": torch.arange(6.0) + 1, "note": "second"})


def test_a_cut_at_any_byte_is_noticed_and_the_one_before_it_used(tmp_path):
    place = two(tmp_path)
    for name in (*checkpoint.FILES, "manifest.json"):
        whole = (place / name).read_bytes()
        for length in range(len(whole)):
            (place / name).write_bytes(whole[:length])
            step, tree = checkpoint.newest(tmp_path)
            assert (step, tree["note"]) == (1, "first"), (name, length)
        (place / name).write_bytes(whole)
    assert checkpoint.newest(tmp_path)[0] == 2


def test_a_flipped_bit_is_noticed(tmp_path):
    place = two(tmp_path)
    for name in checkpoint.FILES:
        whole = bytearray((place / name).read_bytes())
        for at in range(len(whole)):
            whole[at] ^= 1 << (at % 8)
            (place / name).write_bytes(whole)
            assert checkpoint.newest(tmp_path)[0] == 1, (name, at)
            whole[at] ^= 1 << (at % 8)
        (place / name).write_bytes(whole)
    assert checkpoint.newest(tmp_path)[0] == 2


def test_a_missing_file_is_noticed_and_said(tmp_path):
    place = two(tmp_path)
    (place / "state.json").unlink()
    said = []
    assert checkpoint.newest(tmp_path, said.append)[0] == 1
    assert "step-00000002" in said[0]


def test_a_half_written_save_is_never_seen(tmp_path):
    two(tmp_path)
    (tmp_path / ".writing-00000003-77").mkdir()
    (tmp_path / ".writing-00000003-77" / "tensors.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path)[0] == 2
    checkpoint.clear_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_another_version_is_refused_by_name(tmp_path):
    place = two(tmp_path)
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(ModelError, match="version 99"):
        checkpoint.newest(tmp_path)


def test_only_the_newest_are_kept(tmp_path):
    for step in range(5):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((DataError, OSError)) as caught:
        checkpoint.save(tmp_path / "file" / "checkpoints", 1, {})
    assert "file" in str(caught.value)


def test_tied_tensors_are_stored_and_come_back_equal(tmp_path):
    shared = torch.randn(3, 3)
    checkpoint.save(tmp_path, 1, {"a": shared, "b": shared, "c": shared.t()})
    _, back = checkpoint.newest(tmp_path)
    assert torch.equal(back["a"], back["b"])
    assert torch.equal(back["c"], shared.t())
    assert os.path.getsize(tmp_path / "step-00000001" / "tensors.safetensors") > 0
