"""Which method runs on which kind of data: the grid, and the words of every refusal."""

import pytest

from selftaught import methods, modalities
from selftaught.core import ClosedForm, Facts, Method, RequestError
from selftaught.core import find as finder

from .cases import TINY, cases, encoder, toy

EVERY = finder.everything("selftaught.methods", (Method, ClosedForm))
PAIRS = [(name, modality) for name in EVERY for modality in modalities.names()]
DATA = frozenset(methods.OFFERED)


def fitting(cls, modality) -> bool:
    return cls.needs & DATA <= modalities.find(modality).offers


@pytest.mark.parametrize(("name", "modality"), PAIRS, ids=lambda x: x)
def test_pairs_fit_or_say_why_not(name, modality):
    cls, refusal = EVERY[name], methods.fits(EVERY[name], modality)
    assert refusal == methods.fits(cls, modalities.find(modality))
    if fitting(cls, modality):
        assert refusal is None
        return
    missing = sorted(cls.needs & DATA - modalities.find(modality).offers)
    first, second = refusal.split("\n")
    assert first.startswith(f"{name} cannot learn from {modality}: it needs '{missing[0]}' (")
    assert first.endswith(f", which {modality} does not offer.")
    assert all(f"'{need}' ({methods.OFFERED[need]})" in first for need in missing)
    able, run = second.strip().removesuffix(".").split(".  Methods for ")
    assert able == "Kinds of data that do: " + (", ".join(m for m in modalities.names() if fitting(cls, m)) or "none")
    assert run == f"{modality}: " + ", ".join(n for n, c in EVERY.items() if fitting(c, modality))


def test_rotation_of_texts_is_refused_in_these_words():
    assert methods.fits(methods.find("rotation"), "text").startswith(
        "rotation cannot learn from text: it needs 'turn' (quarter turns that a reader could tell apart), which text does not offer.\n"
        "  Kinds of data that do: image.  Methods for text: barlow-twins, bart, bert, byol, "
    )


def test_the_grid_is_printed_from_the_code():
    rows = {row["name"]: row for row in methods.grid()}
    assert list(rows) == methods.names() == sorted(rows)
    for name, row in rows.items():
        assert row.keys() == {"name", "family", "paper", "modalities", "needs", "closed_form"}
        assert row["modalities"] == [m for m in modalities.names() if fitting(EVERY[name], m)]
        assert row["paper"]
        assert row["family"] in {
            "contrastive",
            "distillation",
            "clustering",
            "generative",
            "predictive",
            "decorrelation",
            "closed form",
        }
    families = {row["family"] for row in rows.values()}
    assert families >= {"contrastive", "distillation", "clustering", "generative", "predictive"}


def test_every_case_is_in_the_suite():
    """Four kinds of data prove the interface: the suite would notice if one lost its methods."""
    assert set(TINY) == set(modalities.names())
    pairs = {(c.method, c.modality) for c in cases()}
    for name in ("simclr", "byol", "mae", "next-token", "masked-token"):
        assert {m for n, m in pairs if n == name} == {"image", "text", "series", "sound"}
    assert {m for n, m in pairs if n == "rotation"} == {"image"}
    assert {m for n, m in pairs if n in ("best-rq", "apc", "cpc", "cola", "byol-a", "same-clip")} == {"sound"}
    assert ("swav", "image") in pairs


def test_needs_are_words_that_somebody_understands():
    for cls in EVERY.values():
        assert cls.needs <= DATA | methods.ABLE.keys()
    for name in modalities.names():
        assert modalities.find(name).offers <= DATA


@pytest.mark.parametrize("modality", sorted(TINY))
@pytest.mark.parametrize(
    "needs", [frozenset(), frozenset({"tokens", "mask"}), frozenset({"tokens", "causal"})], ids=str
)
def test_modalities_build_the_encoders_that_methods_need(modality, needs):
    facts = Facts(rows=8, modality=toy(modality, 8)[0])
    assert needs <= encoder(facts, needs).can


def test_an_encoder_that_cannot_is_refused():
    facts = Facts(rows=8, modality=toy("image", 8)[0])
    with pytest.raises(
        RequestError,
        match="mae needs an encoder that takes a part of the tokens and works on tokens; resnet-small is none",
    ):
        methods.check(methods.find("mae"), encoder(facts, frozenset()))
    methods.check(methods.find("mae"), encoder(facts, frozenset({"tokens"})))


@pytest.mark.parametrize("name", sorted(EVERY))
def test_pages_tell_paper_limits_cost_scaling_options_and_data(name):
    page = methods.page(EVERY[name])
    for said in (
        "Paper: ",
        "When it works:",
        "When it fails:",
        "Cost:",
        "Scaled to the budget:",
        "Options:",
        "Needs: ",
        "Runs on: ",
    ):
        assert said in page, said
    assert all(
        line.split(": ", 1)[1] for line in page.split("Options:\n")[1].split("\n\n")[0].split("\n") if " = " in line
    )


@pytest.mark.parametrize("name", sorted(n for n, c in EVERY.items() if not c.closed_form))
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_recipes_say_what_they_scaled(name, device):
    made = (toy(kind, 8)[0] for kind in ("image", "text", "series", "sound"))
    modality = next(m for m in made if methods.fits(EVERY[name], m) is None)
    recipe = EVERY[name]().defaults(Facts(rows=50_000, modality=modality, device=device))
    assert recipe.scaled
    assert all("->" in note for note in recipe.scaled.values())
    assert recipe.batch >= 16
    assert 0 < recipe.lr < 1
    assert recipe.duration.value > 0


def test_names_and_aliases():
    assert methods.find("gpt") is methods.find("next_token") is methods.find("next-token")
    assert methods.name_of(methods.find("roberta")) == "masked-token"
    with pytest.raises(RequestError, match="Did you mean 'byol'"):
        methods.find("boyl")
