import copy
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from selftaught.core import RequestError
from selftaught.evaluation import embed_files
from selftaught.evaluation.embed import embed, embed_layers, raw
from selftaught.evaluation.embed_files import embed_to
from selftaught.nets import store
from tests.evaluation.toys import Rows, net, noise


@pytest.fixture
def encoder():
    return net().train()


@pytest.fixture
def rows():
    return Rows(noise(50, 8), ids=np.arange(50) * 3)


def values_of(path):
    return np.array(pq.read_table(path)["embedding"].to_pylist(), dtype=np.float32)


def test_embedding_is_the_eval_forward_and_leaves_the_encoder_as_it_was(encoder, rows):
    before = copy.deepcopy(encoder.state_dict())
    got = embed(encoder, rows, batch=7)
    assert encoder.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    encoder.eval()
    expected = torch.stack([encoder(rows.fetch(np.array([i])))[0] for i in range(50)]).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_some_rows_in_their_order(encoder, rows):
    places = np.array([4, 40, 2])
    np.testing.assert_allclose(embed(encoder, rows, rows=places), embed(encoder, rows)[places], atol=1e-6)


def test_layers_are_the_stages(encoder, rows):
    first, second = embed_layers(encoder, rows, batch=16)
    np.testing.assert_allclose(second, embed(encoder, rows, layer=1), atol=1e-6)
    np.testing.assert_allclose(second, embed(encoder, rows), atol=1e-6)
    np.testing.assert_allclose(first, embed(encoder, rows, layer=0), atol=1e-6)
    assert first.min() >= 0 > second.min()  # the first stage ends in a ReLU
    with pytest.raises(RequestError, match="0 to 1"):
        embed(encoder, rows, layer=2)


def test_raw_features_are_the_modalitys(rows):
    np.testing.assert_array_equal(raw(rows, batch=8), rows.x)


def test_the_hash_sees_a_weight_a_buffer_and_the_configuration(encoder):
    first = store.fingerprint(encoder)
    assert store.fingerprint(copy.deepcopy(encoder)) == first
    changed = copy.deepcopy(encoder)
    changed.norm.running_mean[0] += 1e-3
    assert store.fingerprint(changed) != first
    assert store.fingerprint(net(hidden=17)) != first


def test_one_file_holds_rows_names_and_embeddings(encoder, rows, tmp_path):
    out = tmp_path / "F.parquet"
    made = embed_to(out, encoder, rows, part_rows=16, batch=8)
    table = pq.read_table(out)
    assert table["row"].to_pylist() == list(range(0, 150, 3))
    assert table["name"][1].as_py() == "row 3"
    np.testing.assert_array_equal(values_of(out), embed(encoder, rows, batch=8))
    assert (made.rows, made.dim, made.files, made.reused) == (50, 16, [out], 0)
    manifest = json.loads((tmp_path / "F.parquet.manifest.json").read_text())
    assert manifest["model"] == store.fingerprint(encoder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["F.parquet", "F.parquet.manifest.json"]
    assert embed_to(out, encoder, rows, part_rows=16, batch=8).reused == 1  # nothing is computed again


@pytest.mark.parametrize("single", [True, False])
def test_cut_anywhere_it_resumes_to_the_same_bytes(encoder, rows, tmp_path, monkeypatch, single):
    whole, cut = (tmp_path / f"{n}{'.parquet' if single else ''}" for n in ("whole", "cut"))
    embed_to(whole, encoder, rows, part_rows=16, batch=8)
    counted = []

    def fails_at(n):
        def write(path, *rest):
            if len(counted) == n:
                path.with_name(f".{path.name}.123").write_bytes(b"half a file")
                raise KeyboardInterrupt
            counted.append(path.name)
            real(path, *rest)

        return write

    real = embed_files._write_part
    monkeypatch.setattr(embed_files, "_write_part", fails_at(2))
    with pytest.raises(KeyboardInterrupt):
        embed_to(cut, encoder, rows, part_rows=16, batch=8)
    monkeypatch.setattr(embed_files, "_write_part", real)
    resumed = embed_to(cut, encoder, rows, part_rows=16, batch=8)
    assert resumed.reused == 2
    for a, b in zip([whole] if single else sorted(whole.glob("part*")), resumed.files, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_a_damaged_part_is_computed_again(encoder, rows, tmp_path):
    made = embed_to(tmp_path / "d", encoder, rows, part_rows=16, batch=8)
    good = made.files[1].read_bytes()
    made.files[1].write_bytes(good[:-3] + b"xyz")
    assert embed_to(tmp_path / "d", encoder, rows, part_rows=16, batch=8).reused == 3
    assert made.files[1].read_bytes() == good


def test_shards_are_the_files_of_the_whole(encoder, rows, tmp_path):
    alone = embed_to(tmp_path / "alone", encoder, rows, part_rows=8, batch=8)
    for i in (2, 0, 1):
        done = embed_to(tmp_path / "shared.parquet", encoder, rows, shard=(i, 3), part_rows=8, batch=8)
        assert done.rows == sum(pq.read_metadata(f).num_rows for f in done.files)
    for a in alone.files:
        assert a.read_bytes() == (tmp_path / "shared.parquet" / a.name).read_bytes()
    table = pq.read_table(tmp_path / "shared.parquet")  # a folder of parts reads as one table, in order
    assert table["row"].to_pylist() == rows.ids.tolist()
    with pytest.raises(RequestError, match="Shards of 3"):
        embed_to(tmp_path / "x", encoder, rows, shard=(3, 3))


def test_embeddings_of_another_model_are_not_mixed_in(encoder, rows, tmp_path):
    embed_to(tmp_path / "d", encoder, rows)
    with pytest.raises(RequestError, match="another model"):
        embed_to(tmp_path / "d", net(seed=1), rows)
    embed_to(tmp_path / "d", net(seed=1), rows, overwrite=True)
    np.testing.assert_array_equal(values_of(tmp_path / "d"), embed(net(seed=1), rows))


def test_half_precision_is_stored_as_such(encoder, rows, tmp_path):
    embed_to(tmp_path / "h.parquet", encoder, rows, dtype="float16")
    table = pq.read_table(tmp_path / "h.parquet")
    assert str(table.schema.field("embedding").type.value_type) == "halffloat"
    np.testing.assert_allclose(values_of(tmp_path / "h.parquet"), embed(encoder, rows), atol=2e-3)
