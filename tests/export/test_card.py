import json
import re

import pytest
import yaml

from selftaught.core import ModelError
from selftaught.export import card as cards
from selftaught.export.card import Card, plain, render

from .networks import network

EVALUATION = {
    "task": "classify", "metric": "accuracy",
    "rows": [{"features": "pretrained", "probe": "linear", "layer": "last", "labels_per_class": 5, "mean": 0.912, "low": 0.89, "high": 0.93, "draws": 10, "seeds": 1}],
    "differences": [{"a": "pretrained", "b": "raw", "probe": "linear", "labels_per_class": 5, "mean": 0.08, "low": 0.05, "high": 0.11}],
    "smallest_visible_difference": 0.021, "leakage": {"exact": 3, "near": 7, "without": []},
    "verdict": {"answer": "helped", "sentence": "With 5 labels a class pretraining helped."},
}  # fmt: skip


def test_the_verdict_stands_first_and_the_figures_follow():
    text = render(
        network("resnet-small"),
        Card(method="simclr", licence="Apache-2.0", evaluation=EVALUATION, data={"licence": "CC0-1.0"}),
    )
    assert text.index("Did pretraining help? helped.") < text.index("## What it is")
    for said in (
        "| pretrained | linear | 5 | 0.912 | 0.89 | 0.93 |",
        "0.08, interval 0.05 to 0.11",
        "0.021",
        "3 exact, 7 near",
        "CC0-1.0",
    ):
        assert said in text
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "Apache-2.0"
    assert "resnet-small" in front["tags"]


def test_what_is_not_known_is_said():
    text = render(network("resnet-small"), Card())
    assert "Did pretraining help?** Not measured." in text
    assert "whether pretraining helped is not known" in text
    assert "licence of the data is not stated" in text
    assert text.count("not stated") >= 6


def test_an_evaluation_without_verdict_is_refused():
    with pytest.raises(ModelError, match="no verdict"):
        render(network("resnet-small"), Card(evaluation={"rows": []}))


@pytest.mark.parametrize(
    "hostile",
    [
        "a | b",
        "x\n\n# heading",
        "<script>alert(1)</script>",
        "[click](http://evil)",
        "---\nlicense: mine",
        "`code`",
        "**x**",
    ],
)
def test_texts_of_the_data_stay_text(hostile):
    text = render(
        network("resnet-small"), Card(title=hostile, data={"name": hostile, "provenance": hostile}, limits=[hostile])
    )
    body = text.split("---", 2)[2]
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(", body)
    assert yaml.safe_load(text.split("---")[1])["license"] == "unknown"
    assert [line for line in body.splitlines() if line.startswith("# ")] == [f"# {plain(hostile)}"]
    row = next(line for line in body.splitlines() if line.startswith("| name |"))
    assert row.replace("\\|", "").count("|") == 3


def test_the_card_of_a_run_reads_what_stands_in_its_folder(tmp_path):
    (tmp_path / "config.toml").write_text('data = "/home/me/pictures"\nmethod = "simclr"\n')
    (tmp_path / "data.json").write_text(
        json.dumps({"fingerprint": "abc123", "rows": 500, "modality": {"name": "image"}})
    )
    (tmp_path / "result.json").write_text(json.dumps({"steps": 120, "seconds": 61.5, "loss": 1.0}))
    (tmp_path / "env.json").write_text(
        json.dumps({"chip": {"name": "A chip", "amx": False}, "threads": 2, "gpu": None})
    )
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    card = cards.of_run(tmp_path, licence="MIT", data={"licence": "CC-BY-4.0"})
    assert (card.method, card.licence) == ("simclr", "MIT")
    assert card.data == {"name": "pictures", "rows": 500, "fingerprint": "abc123", "licence": "CC-BY-4.0"}
    assert card.budget == {"steps": 120, "seconds": 61.5, "processor": "A chip", "threads": 2}
    assert card.paper.startswith("Chen et al. 2020")
    text = render(network("resnet-small"), card)
    assert "/home/me" not in text
    assert "abc123" in text
    assert cards.of_run(tmp_path / "nothing").evaluation is None
