"""Clusters handed over: known groups are found, the largest first, told by their words; the same again for the same seed."""

import csv
import json

import numpy as np
import pytest

from selftaught.core import ModelError, RequestError
from selftaught.data import Dataset, open_source
from selftaught.evaluation import embed, load_model, predict
from selftaught.evaluation.cluster import _chosen, cluster
from selftaught.evaluation.cluster_models import Space
from selftaught.measures import agreement
from selftaught.modalities.text import Text
from selftaught.train import pretrain

from ..cli.shell import run as command
from .test_similarity import Bag

TOPICS = {
    "sea": ["ship", "harbour", "tide", "anchor", "reef", "sailor"],
    "field": ["horse", "barn", "plough", "meadow", "cow", "hay"],
    "kitchen": ["soup", "oven", "bread", "knife", "sauce", "cook"],
}


def texts(counts=(30, 20, 10), seed=0):
    """Texts of three topics, whose words are shared by no other, among words of all."""
    rng = np.random.default_rng(seed)
    out, topic = [], []
    for number, (words, count) in enumerate(zip(TOPICS.values(), counts, strict=True)):
        for _ in range(count):
            out.append("the " + " and the ".join(rng.choice(words, 4)))
            topic.append(number)
    order = rng.permutation(len(out))
    return [out[i] for i in order], np.array(topic)[order]


@pytest.fixture(scope="module")
def data():
    rows, topic = texts()
    source = open_source(rows)
    return Dataset.open(source, "text", Text.fit(source, "text", size=64)), topic


@pytest.fixture(scope="module")
def texts_run(tmp_path_factory):
    """A run of two steps on these texts."""
    out = tmp_path_factory.mktemp("cluster") / "run"
    options = {"width": 16, "depth": 1, "heads": 2}
    pretrain(texts()[0], method="masked-token", steps=2, out=out, recipe={"batch": 8}, encoder_options=options, size=64)
    return out


def test_known_groups_are_found_largest_first_with_their_words(data):
    dataset, topic = data
    bag = Bag(vocabulary=dataset.modality.vocabulary)
    found = cluster(bag, dataset, clusters=3)
    which = found.table["cluster"].to_numpy()
    assert agreement(which, topic)["accuracy"] == 1
    assert [one["rows"] for one in found.clusters] == [30, 20, 10]
    for one, words in zip(found.clusters, TOPICS.values(), strict=True):
        assert set(one["words"][:6]) == set(words)
        assert [e["distance"] for e in one["examples"]] == sorted(e["distance"] for e in one["examples"])
        assert all(which[e["row"]] == one["cluster"] for e in one["examples"])
    again = cluster(bag, dataset, clusters=3)
    assert again.table.equals(found.table)
    assert again.clusters == found.clusters


def test_distances_are_of_the_cosine_with_the_mean_direction(data):
    dataset, _ = data
    bag = Bag(vocabulary=dataset.modality.vocabulary)
    found = cluster(bag, dataset, clusters=3)
    which, rows = found.table["cluster"].to_numpy(), embed(bag, dataset).astype(np.float64)
    rows = rows - rows.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for number in range(3):
        own = rows[which == number]
        centre = own.mean(0) / np.linalg.norm(own.mean(0))
        np.testing.assert_allclose(found.table["distance"].to_numpy()[which == number], 1 - own @ centre, atol=2e-6)


def test_the_number_is_chosen_where_none_is_named(data):
    rng = np.random.default_rng(0)
    blobs = rng.normal(size=(90, 12)) * 0.2 + np.repeat(np.eye(12)[:5], 18, 0)
    number, tried = _chosen(Space.of(blobs).place(blobs), 90, 0)
    assert number == 5
    assert set(tried) == {2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30}
    dataset, _ = data
    found = cluster(Bag(vocabulary=dataset.modality.vocabulary), dataset)
    assert len(found.clusters) == max(found.tried, key=found.tried.get)


def test_rows_that_are_all_alike_are_one_cluster():
    source = open_source(["the same words again"] * 12)
    dataset = Dataset.open(source, "text", Text.fit(source, "text", size=16))
    bag = Bag(vocabulary=dataset.modality.vocabulary)
    found = cluster(bag, dataset)
    assert [one["rows"] for one in found.clusters] == [12]
    with pytest.raises(RequestError, match="unlike rows"):
        cluster(bag, dataset, clusters=2)


def test_a_row_at_the_mean_has_no_direction():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], np.float32)
    placed = Space.of(rows).place(rows)
    np.testing.assert_array_equal(placed, [[1, 0], [-1, 0], [0, 0]])


def test_from_the_command_line_with_what_cannot_be_read(tmp_path, capsys, texts_run):
    rows, _ = texts()
    with open(tmp_path / "d.csv", "w", newline="") as file:
        csv.writer(file).writerows([("body",), *([r] for r in rows[:20]), [""], *([r] for r in rows[20:])])
    words = ["cluster", str(texts_run), str(tmp_path / "d.csv"), "-k", "4", "--max-bad", "0.1"]
    code, out, err = command(capsys, *words, "-o", str(tmp_path / "c.csv"))
    assert code == 0, err
    assert "cluster 0: " in out
    with open(tmp_path / "c.csv", newline="") as file:
        held = list(csv.DictReader(file))
    assert [int(row["row"]) for row in held] == [k for k in range(61) if k != 20]
    code, out, _ = command(capsys, *words, "--json", "-q")
    assert code == 0
    told = json.loads(out)
    assert [int(row["cluster"]) for row in held] == [row["cluster"] for row in told["assigned"]]
    assert sum(one["rows"] for one in told["clusters"]) == 60
    assert command(capsys, "embed", str(texts_run), str(tmp_path / "d.csv"), "-o", str(tmp_path / "e.parquet"), "-q", "--max-bad", "0.1")[0] == 0  # fmt: skip
    code, out, _ = command(capsys, "cluster", str(texts_run), str(tmp_path / "e.parquet"), "-k", "4", "--json", "-q")
    assert code == 0
    assert [r["cluster"] for r in json.loads(out)["assigned"]] == [r["cluster"] for r in told["assigned"]]
    code, _, err = command(capsys, *words, "-o", str(tmp_path / "c.xlsx"))
    assert code == 2
    assert "Accepted: .parquet, .csv, .jsonl" in err


def test_search_writes_hits_with_their_texts(tmp_path, capsys, texts_run):
    rows, _ = texts()
    for name, header, some in (("d", "body", rows), ("q", "ask", ["the soup and the bread", "the cow"])):
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", header), *((k, r) for k, r in enumerate(some))])
    words = ["search", str(texts_run), str(tmp_path / "d.csv"), str(tmp_path / "q.csv"), "--query-column", "ask", "--column", "body"]  # fmt: skip
    code, out, err = command(capsys, *words, "-k", "3", "-o", str(tmp_path / "h.csv"))
    assert code == 0, err
    assert "6 hits of 2 queries" in out
    with open(tmp_path / "h.csv", newline="") as file:
        held = list(csv.DictReader(file))
    assert [(r["query"], r["rank"]) for r in held] == [(q, k) for q in "01" for k in "123"]
    for row in held:
        assert row["text"] == rows[int(row["row"])]
        assert abs(float(row["score"])) <= 1.000001
    code, out, _ = command(capsys, *words[:3], "the soup", "-q")
    assert code == 0
    assert rows[0].split()[0] in out
    code, _, err = command(capsys, *words[:3], " ", "-q")
    assert code == 2
    assert "An empty query finds nothing" in err


def test_a_saved_model_gives_the_same_clusters_and_places_further_rows(tmp_path, capsys, texts_run):
    rows, _ = texts()
    found = cluster(texts_run, rows, clusters=3)
    home = found.model.save(tmp_path / "model")
    same = ["row", "name", "cluster", "distance"]
    assert predict(home, rows).select(same).equals(found.table.select(same).replace_schema_metadata(predict(home, rows).schema.metadata))  # fmt: skip
    assert predict(home, rows[7:9])["cluster"].to_pylist() == found.table["cluster"].to_pylist()[7:9]
    assert load_model(home).result["clusters"][0]["words"] == found.clusters[0]["words"]
    with open(tmp_path / "d.csv", "w", newline="") as file:
        csv.writer(file).writerows([("body",), *([r] for r in rows), [""]])
    words = ["cluster", str(texts_run), str(tmp_path / "d.csv"), "-k", "3", "--max-bad", "0.1", "--save", str(tmp_path / "m"), "-q"]  # fmt: skip
    code, out, err = command(capsys, *words)
    assert code == 0, err
    assert f"selftaught predict {tmp_path / 'm'} DATA" in out
    code, out, _ = command(capsys, "predict", str(tmp_path / "m"), str(tmp_path / "d.csv"), "-o", str(tmp_path / "p.csv"), "--json", "-q")  # fmt: skip
    assert code == 0
    assert json.loads(out)["rejected"] == 1
    with open(tmp_path / "p.csv", newline="") as file:
        assert [int(row["cluster"]) for row in csv.DictReader(file)] == found.table["cluster"].to_pylist()
    code, _, err = command(capsys, "finetune", str(texts_run), str(tmp_path / "d.csv"), "--task", "cluster", "-q")
    assert code == 2
    assert "Clustering trains no head" in err


@pytest.mark.parametrize(
    "broken",
    [
        {"version": 7},
        {"mean": [0.0]},
        {"mean": "x"},
        {"least": 0},
        {"options": {"k": 5}},
        {"options": {"k": 3, "command": "ls"}},
        {"mean": [float("nan")] * 16},
    ],
)
def test_a_broken_model_of_clusters_is_refused(tmp_path, texts_run, broken):
    home = cluster(texts_run, texts()[0], clusters=3).model.save(tmp_path / "model")
    about = json.loads((home / "labels.json").read_text())
    (home / "labels.json").write_text(json.dumps({**about, **broken}))
    with pytest.raises(ModelError):
        predict(home, texts()[0])
