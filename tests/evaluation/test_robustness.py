"""Read-outs on spoiled rows: planted features that noise does not reach, and features that it destroys."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from selftaught.core import RequestError
from selftaught.evaluation import evaluate
from selftaught.evaluation.robustness import sentence, spoil
from selftaught.report.page import _robustness
from tests.evaluation.toys import Linear, Rows, Vectors, noise

CONTROLS = ("raw", "untrained")


@dataclass(frozen=True)
class Half:
    """Noise of `strength` on the second half of the numbers."""

    strength: float

    def __call__(self, view, draw):
        values = view["values"].clone()
        width = values.shape[1] // 2
        values[:, width:] += self.strength * draw.normal("half", width)
        return view.with_parts(values=values)


@dataclass(frozen=True)
class Shaky(Vectors):
    name: ClassVar[str] = "vectors"

    def corruptions(self):
        return {"half": {1: Half(0.0), 5: Half(1000.0)}}


@dataclass
class ShakyRows(Rows):
    def __post_init__(self):
        super().__post_init__()
        self.modality = Shaky(self.x.shape[1])

    def subset(self, places):
        part = super().subset(places)
        return ShakyRows(part.x, part.y, part.ids, part.group, part.classes, part.columns, part.fingerprint)


def spread(rows: int = 300) -> ShakyRows:
    """Four classes, told by either half."""
    y = np.arange(rows) % 4
    return ShakyRows((noise(rows, 16) + 2.0 * noise(4, 16, 9)[y]).astype(np.float32), y)


def first_half() -> Linear:
    encoder = Linear(width=16, hidden=8)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.eye(8, 16))
    return encoder


@pytest.fixture(scope="module")
def found():
    settings = {"budgets": [5], "seeds": 1, "draws": 3}
    return evaluate(first_half(), spread(), robustness=True, controls=(*CONTROLS, "scratch"), **settings)


def at(rows, **want):
    (row,) = [r for r in rows if all(r[k] == v for k, v in want.items())]
    return row


def test_what_noise_does_not_reach_loses_nothing_and_the_rest_loses_all(found):
    result = found["robustness"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    lost = {
        n: at(result["drops"], features=n, severity=5)["mean"] for n in ("pretrained", "raw", "untrained", "scratch")
    }
    assert lost["pretrained"] == 0
    assert min(lost["raw"], lost["untrained"], lost["scratch"]) > 0.3
    ahead = at(result["differences"], b="raw", severity=5)
    assert ahead["low"] > 0.3
    assert "lose, in points of accuracy: 0.0 under half" in result["sentence"]
    assert "surely ahead" in result["sentence"]


def test_no_spoiling_is_the_verdicts_own_scores(found):
    """Severity 1 changes nothing here: clean and spoiled agree, and clean is what the verdict's rows say."""
    result = found["robustness"]
    for name in ("pretrained", "raw", "untrained", "scratch"):
        clean, same = (at(result["rows"], features=name, severity=s) for s in (0, 1))
        probe = "finetune" if name == "scratch" else "linear"
        told = at(found["rows"], features=name, probe=probe, labels_per_class=5)
        assert clean["mean"] == pytest.approx(same["mean"], abs=1e-6)
        assert clean["mean"] == pytest.approx(told["mean"], abs=1e-6)
        assert at(result["drops"], features=name, severity=1)["mean"] == pytest.approx(0, abs=1e-6)
    for name in ("pretrained", "raw"):
        rows = {r["severity"]: r["mean"] for r in result["rows"] if r["features"] == name}
        assert rows["mean"] == pytest.approx((rows[1] + rows[5]) / 2, abs=2e-6)


def test_the_page_shows_it(found):
    section = _robustness(found)
    assert "On spoiled test rows" in section
    assert section.count("<svg") == 1
    assert _robustness({"rows": []}) == ""


def test_spoiled_rows_are_a_function_of_seed_and_row():
    rows = spread(50)
    places = np.arange(50)
    one, again, other = (spoil(rows, seed)["half", 5].fetch(places)["values"] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    some = spoil(rows, 0)["half", 5].fetch(np.array([7, 3]))["values"]
    assert torch.equal(some, one[[7, 3]])


def test_data_without_corruptions_say_so():
    rows = Rows(noise(60, 8), np.arange(60) % 3)
    with pytest.raises(RequestError, match="no corruptions of vectors"):
        evaluate(Linear(width=8, hidden=4), rows, robustness=True, controls=("raw",), budgets=[2], seeds=1)


def test_the_sentence_says_no_more_than_the_intervals():
    drops = [
        {"features": f, "corruption": "noise", "severity": "mean", "mean": m} for f, m in (("pretrained", 0.123), ("raw", 0.04))
    ]  # fmt: skip
    for low, high, words in (
        (0.01, 0.1, "surely ahead"),
        (-0.1, -0.01, "surely behind"),
        (-0.1, 0.1, "not surely ahead"),
    ):
        gap = [{"b": "raw", "corruption": "noise", "severity": "mean", "low": low, "high": high}]
        said = sentence(drops, gap, "raw", "accuracy")
        assert f"12.3 under noise (raw: 4.0; {words})" in said
