"""The report's pictures: each with its caption and words for those who cannot see it; none where a run has none; a hostile folder is refused."""

import base64
import html
import json
import shutil

import numpy as np
import pytest

from selftaught import train
from selftaught.core import ModelError
from selftaught.modalities import find
from selftaught.report import report

from .test_page import Outline

SMALL = {"encoder_options": {"widths": (8,), "blocks": (1,), "strides": (2,), "stem": 8}, "recipe": {"batch": 10}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = np.stack(find("image").toy(40, 0)[0])[:, ::2, ::2]
    return train.pretrain(rows, method="rotation", steps=4, out=tmp_path_factory.mktemp("report") / "run", **SMALL).run


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    return train.Run(tmp_path / "run")


def catalogue(run) -> dict:
    return json.loads((run.pictures / "pictures.json").read_text())


def test_every_picture_is_there_with_its_caption_and_a_text_for_it(run):
    text = report(run).read_text()
    outline = Outline()
    outline.feed(text)
    words = "".join(outline.text)
    sheets = catalogue(run)["sheets"]
    assert {(s["name"], s["stage"]) for s in sheets} == {(n, s) for n in ("turns", "filters") for s in ("start", "middle", "end")}  # fmt: skip
    for sheet in sheets:
        uri = "data:image/png;base64," + base64.b64encode((run.pictures / sheet["file"]).read_bytes()).decode()
        assert uri in outline.sources
        if sheet["stage"] == "end":
            assert html.unescape(sheet["caption"]) in words
            assert sheet["title"] in words
    assert text.count('class="sheet"') == len(sheets)
    (turns,) = [s for s in sheets if (s["name"], s["stage"]) == ("turns", "end")]
    assert f'alt="Which way is up?: turned, turned back. {turns["right"][0]} of 8 right."' in text
    assert words.count("turned back") >= turns["blocks"]
    assert "8 training rows" in words
    assert "The same half way (step 2)." in words
    assert len(text) < 3_000_000
    assert 'alt=""' not in text.split("What the network saw")[0]


def test_a_run_without_pictures_has_a_report_without(copy):
    shutil.rmtree(copy.pictures)
    text = report(copy).read_text()
    assert "in pictures" not in text
    assert "<h2>Training</h2>" in text


def test_a_run_that_was_stopped_shows_what_there_is(copy):
    held = catalogue(copy)
    held["sheets"] = [s for s in held["sheets"] if s["stage"] != "end"]
    copy.write_json("pictures/pictures.json", held)
    text = report(copy).read_text()
    assert text.count('class="sheet"') == 4
    assert "before the first step" in text


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../secret.png"}, {"file": "missing.png"}, {"file": "../config.toml"}, {"width": '9" onload="x'}, {"stage": "<b>"},
        {"right": "many"}, {"columns": None},
    ],
)  # fmt: skip
def test_a_broken_or_hostile_catalogue_is_refused(copy, change):
    (copy.folder.parent / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    held = catalogue(copy)
    held["sheets"][0] |= change
    copy.write_json("pictures/pictures.json", held)
    with pytest.raises(ModelError, match=r"pictures\.json"):
        report(copy)


def test_words_from_the_catalogue_stay_text(copy):
    held = catalogue(copy)
    for sheet in held["sheets"]:
        sheet.update(caption="<script>1</script>", title="<img src=x>", columns=['"><script>'])
    copy.write_json("pictures/pictures.json", held)
    outline = Outline()
    outline.feed(report(copy).read_text())
    assert outline.tags.count("script") == 1
    assert all(s.startswith("data:image/png;base64,") for s in outline.sources)
    copy.write_json("pictures/pictures.json", {"rows": 1})
    with pytest.raises(ModelError):
        report(copy)
    (copy.pictures / "pictures.json").write_text("{")
    with pytest.raises(ModelError):
        report(copy)
