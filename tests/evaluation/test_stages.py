"""The stage that is read out, chosen on validation rows: planted networks whose middle is better than their end."""

import json
from typing import ClassVar

import pytest
import torch

from selftaught import core
from selftaught.core import RequestError, Tokens
from selftaught.evaluation import evaluate
from selftaught.evaluation.evaluate import default_layer
from selftaught.evaluation.stages import Stages
from tests.evaluation.test_evaluate import QUICK, planted, row_of
from tests.evaluation.toys import Linear


class Forgetful(Linear):
    """Stage 0 keeps the signal, the representation is its first number alone."""

    kind: ClassVar[str] = "toy-forgetful"

    @property
    def can(self):
        return frozenset({"stages"})

    def features(self, view):
        middle = self.map(view["values"])
        return [Tokens(middle[:, None]), Tokens(self.last(middle)[:, None])]

    def last(self, middle):
        return torch.cat([middle[:, :1], torch.zeros_like(middle[:, 1:])], 1)

    def forward(self, view):
        return self.last(self.map(view["values"]))


@pytest.fixture(scope="module")
def forgetful():
    rows, good = planted()
    encoder = Forgetful(width=32, hidden=8)
    encoder.load_state_dict(good.state_dict())
    return rows, encoder


def test_the_better_stage_is_read_out_of_both_networks(forgetful):
    rows, encoder = forgetful
    result = evaluate(encoder, rows, layer="all", **QUICK)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    chosen = {r["features"]: r["layer"] for r in result["stages"]["rows"] if r["chosen"]}
    assert chosen == {"pretrained": 0, "untrained": 0}
    assert {r["layer"] for r in result["rows"] if r["features"] == "pretrained"} == {0, 1, "last"}
    assert {r["layer"] for r in result["rows"] if r["features"] == "untrained"} == {0}
    assert row_of(result, "pretrained", layer=0)["mean"] > row_of(result, "pretrained")["mean"] + 0.2
    assert result["stages"]["over_last"]["low"] > 0.1
    assert "stage 0 reads best on validation rows" in result["stages"]["sentence"]
    assert "after pretraining (read at stage 0, chosen on validation)" in result["verdict"]["sentence"]
    # The chosen stage is what the verdict's contrast, the curve and kNN are of: as if it had been asked for.
    asked = evaluate(encoder, rows, layer=0, **QUICK)
    assert result["differences"] == asked["differences"]
    assert "stages" not in asked


def test_the_last_is_kept_where_nothing_is_better():
    rows, encoder = planted()
    result = evaluate(encoder, rows, layer="all", **QUICK)  # this encoder has no stages to choose from
    assert {r["layer"] for r in result["rows"] if r["features"] == "pretrained"} == {"last"}
    assert result["differences"] == evaluate(encoder, rows, **QUICK)["differences"]
    assert "the representation reads best" in result["stages"]["sentence"]


def test_the_choice_does_not_see_the_test_rows(forgetful):
    """Test labels are shuffled: the validation scores, and so the stages, stay."""
    rows, encoder = forgetful
    test, _ = planted(100, key=70)
    honest = evaluate(encoder, rows, test=test, layer="all", **QUICK)
    test.y = (test.y + 1) % 4
    wrong = evaluate(encoder, rows, test=test, layer="all", **QUICK)
    pick = lambda found: [(r["features"], r["layer"], r["validation"], r["chosen"]) for r in found["stages"]["rows"]]  # noqa: E731
    assert pick(honest) == pick(wrong)
    assert [r["mean"] for r in honest["stages"]["rows"]] != [r["mean"] for r in wrong["stages"]["rows"]]


def test_ties_go_to_the_representation_and_seeds_are_averaged():
    from selftaught.evaluation.probe import Probed

    one = lambda a, b: {"last": Probed(validation={5: a}), 0: Probed(validation={5: b})}  # noqa: E731
    assert Stages([one(0.5, 0.5)], 5).chosen == "last"
    assert Stages([one(0.5, 0.6), one(0.5, 0.3)], 5).chosen == "last"
    assert Stages([one(0.5, 0.6), one(0.5, 0.5)], 5).chosen == 0


def test_families_that_peak_before_their_end_are_probed_at_every_stage(tmp_path):
    for method, expected in (("rotation", "all"), ("mae", "all"), ("simclr", "last"), ("nobody-knows", "last")):
        folder = tmp_path / method
        folder.mkdir()
        (folder / "config.toml").write_text(core.config.dumps({"method": method, "seed": 3}))
        assert default_layer(folder) == expected
        assert default_layer([folder, folder]) == expected
    assert default_layer(Linear(width=4, hidden=2)) == "last"


def test_layers_that_are_not_there_are_said(forgetful):
    rows, encoder = forgetful
    for layer in ("middle", 5):
        with pytest.raises(RequestError, match="does not exist"):
            evaluate(encoder, rows, layer=layer, **QUICK)
