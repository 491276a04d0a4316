import numpy as np
import pyarrow.parquet as pq
import pytest

from selftaught import modalities, nets
from selftaught.core import RequestError
from selftaught.data import Dataset
from selftaught.evaluation import embed, embed_to, evaluate, search
from tests.evaluation.test_adapt import pictures  # noqa: F401
from tests.evaluation.test_evaluate import planted


def expected(vectors: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    cosine = [float(v @ query / (np.linalg.norm(v) * np.linalg.norm(query))) for v in vectors.astype(np.float64)]
    return [(i, cosine[i]) for i in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]]


def test_the_nearest_rows_are_those_a_loop_finds_in_data_and_in_embeddings(pictures, tmp_path):  # noqa: F811
    run, data = pictures
    encoder = nets.store.load_encoder(run)
    vectors = embed(encoder, data)
    asked = Dataset.from_arrays(data.rows(np.array([3, 40])), data.modality)
    one = search(run, data, [asked], k=4)
    assert (one["rows"], one["dimensions"]) == (120, encoder.dim)
    for row, answer in zip((3, 40), one["queries"], strict=True):
        wanted = expected(vectors, vectors[row], 4)
        assert answer["hits"][0]["row"] == row
        np.testing.assert_allclose([h["score"] for h in answer["hits"]], [s for _, s in wanted], atol=1e-5)
        assert [h["name"] for h in answer["hits"]] == data.names([h["row"] for h in answer["hits"]])
    embed_to(tmp_path / "e.parquet", encoder, data)
    embed_to(tmp_path / "parts", encoder, data, part_rows=50)
    for stored in ("e.parquet", "parts"):
        assert search(run, tmp_path / stored, [asked], k=4) == one


def test_a_row_does_not_find_itself(pictures):  # noqa: F811
    run, data = pictures
    vectors = embed(nets.store.load_encoder(run), data)
    (answer,) = search(run, data, ["row:7"], k=3)["queries"]
    wanted = [(i, s) for i, s in expected(vectors, vectors[7], 4) if i != 7][:3]
    np.testing.assert_allclose([h["score"] for h in answer["hits"]], [s for _, s in wanted], atol=1e-5)
    assert answer["query"] == data.names([7])[0]
    assert len(search(run, data, ["row:7"], k=500)["queries"][0]["hits"]) == 119


def test_words_ask_where_the_data_are_text(tmp_path):
    from selftaught.core import Facts, Kept

    texts = [
        f"the {a} {b} sits on the {c}"
        for a in ("red", "blue")
        for b in ("cat", "dog")
        for c in ("mat", "chair", "roof")
    ]
    data = modalities.open_data({"text": texts * 2}, modality="text")
    encoder = data.modality.encoder(Facts(rows=24, modality=data.modality), frozenset(), width=16, depth=1, heads=2)
    nets.store.save(tmp_path / "m", Kept(encoder), fill=data.modality.save)
    found = search(tmp_path / "m", data, [texts[5]], k=2)["queries"][0]
    assert found["query"] == texts[5]
    assert {h["row"] for h in found["hits"]} == {5, 17}
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_searched_is_said(pictures, tmp_path):  # noqa: F811
    run, data = pictures
    for queries, k, why in (([], 3, "nothing to search for"), (["row:900"], 3, "no row"), (["row:x"], 3, "no row"), (["nowhere.png"], 3, "nowhere.png"), (["row:1"], 0, "finds nothing")):  # fmt: skip
        with pytest.raises(RequestError, match=why):
            search(run, data, queries, k=k)
    encoder = nets.store.load_encoder(run)
    embed_to(tmp_path / "e.parquet", encoder, data)
    other = encoder.sibling()
    with pytest.raises(RequestError, match="another model"):
        search(other, tmp_path / "e.parquet", ["row:1"])
    (tmp_path / "e.parquet.manifest.json").unlink()
    narrow = pq.read_table(tmp_path / "e.parquet")
    pq.write_table(narrow.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(RequestError, match="dimensions"):
        search(run, tmp_path / "empty.parquet", ["row:1"])


def test_evaluate_describes_retrieval_where_there_are_classes():
    rows, encoder = planted(200)
    result = evaluate(encoder, rows, budgets=[2], draws=2, seeds=1, controls=("raw", "untrained"))
    found = {(r["features"], r["metric"]): r for r in result["retrieval"]}
    assert {m for _, m in found} == {"map@r", "recall@1", "recall@5", "recall@10"}
    assert {f for f, _ in found} == {"pretrained", "raw", "untrained"}
    assert found["pretrained", "map@r"]["mean"] > found["raw", "map@r"]["mean"]
    for one in found.values():
        assert 0 <= one["low"] <= one["mean"] <= one["high"] <= 1
        assert (one["queries"], one["gallery"]) == (40, 160)
