"""The report: verdict first, offline, everything from the data escaped; looked at in a browser, narrow and dark too."""

import html.parser
import json
import shutil

import numpy as np
import pytest

from selftaught import train
from selftaught.modalities import find, open_data
from selftaught.report import report
from selftaught.report.charts import Curve, curves, intervals

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


def evaluation() -> dict:
    def row(features, probe, budget, mean):
        return {
            "features": features, "probe": probe, "layer": "last", "labels_per_class": budget, "mean": mean,
            "low": mean - 0.03, "high": mean + 0.03, "draws": 10, "seeds": 1,
        }  # fmt: skip

    rows = [
        row(f, p, b, m + 0.01 * b)
        for f, m in (("pretrained", 0.6), ("raw", 0.5))
        for p in ("linear", "knn")
        for b in (1, 5, 20)
    ]
    return {
        "task": "classify", "metric": "accuracy", "rows": rows,
        "differences": [{"a": "pretrained", "b": "raw", "probe": "linear", "labels_per_class": 5, "mean": 0.1, "low": 0.06, "high": 0.14}],
        "smallest_visible_difference": 0.02, "leakage": {"exact": 3, "near": 4, "without": rows[:2]},
        "verdict": {"answer": "helped", "sentence": "Pretraining helped " + HOSTILE},
    }  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    rows, _ = find("image").toy(60, 0)
    pictures = np.stack(rows)[:, ::2, ::2]
    small = {"encoder_options": {"widths": (8,), "blocks": (1,), "strides": (2,), "stem": 8}, "recipe": {"batch": 20}}
    done = train.pretrain(pictures, method="simclr", steps=4, out=place / "run", **small)
    (done.run.folder / "evaluation.json").write_text(json.dumps(evaluation()))
    data = open_data(pictures)
    data.names = lambda index: [f"{i} {HOSTILE}" for i in index]
    return report(done.run, data)


class Outline(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "onerror", "onload", "onclick")]

    def handle_data(self, data):
        self.text.append(data)


def test_one_offline_file_with_the_verdict_first(written):
    outline = Outline()
    text = written.read_text()
    outline.feed(text)
    assert all(s.startswith("data:image/png;base64,") for s in outline.sources)
    assert "default-src &#x27;none&#x27;" in text
    assert text.index('class="verdict helped"') < text.index("<section>")
    titles = [
        "Scores",
        "Paired differences",
        "How many labels it takes",
        "Training",
        "What the network saw",
        "Map",
        "Nearest neighbours",
        "Leakage",
    ]
    positions = [text.index(f"<h2>{t}</h2>") for t in titles]
    assert positions == sorted(positions)


def test_what_comes_from_the_data_stays_text(written):
    outline = Outline()
    outline.feed(written.read_text())
    assert outline.tags.count("script") == 2  # the page's own, and the map's items
    assert "window.hacked" in "".join(outline.text)


def test_charts_hold_their_numbers_and_nothing_where_there_is_nothing():
    assert curves([Curve("a", [])], x="x", y="y") == ""
    assert intervals([]) == ""
    drawn = curves(
        [Curve("a<b", [(1, 0.5), (5, 0.7)], [(1, 0.4, 0.6), (5, 0.6, 0.8)])], x="labels", y="accuracy", log_x=True
    )
    assert "a&lt;b" in drawn
    assert drawn.count("<polygon") == 1
    assert "0.700 at 5" in drawn
    assert "nan" not in curves([Curve("flat", [(3, 1.0), (3, 1.0)])], x="x", y="y")


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-sync",
        "--disable-component-update",
        "--disable-quic",
    ):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, written, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get(written.as_uri())
    look = browser.execute_script
    assert look("return document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    assert look("return window.hacked === undefined")
    assert look("return document.querySelector('.verdict').getBoundingClientRect().top") < 400
    ink, paper = (look(f"return getComputedStyle(document.body).{p}") for p in ("color", "backgroundColor"))
    shade = lambda rgb: sum(int(v) for v in rgb[4:-1].split(","))  # noqa: E731
    assert (shade(ink) > shade(paper)) == (scheme == "dark")
    assert abs(shade(ink) - shade(paper)) > 400
    broken = look("return [...document.images].filter(i => !i.complete || !i.naturalWidth).length")
    assert broken == 0


def test_a_point_shows_its_thumbnail_and_name_on_hover(browser, written):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1000, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(written.as_uri())
    points = browser.find_elements(By.CSS_SELECTOR, ".map circle")
    assert len(points) == 60
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", points[7])
    ActionChains(browser).move_to_element(points[7]).perform()
    tip = browser.find_element(By.ID, "tip")
    assert tip.is_displayed()
    assert HOSTILE in tip.text
    assert tip.find_element(By.TAG_NAME, "img").get_attribute("src").startswith("data:image/png")


def test_groups_that_were_left_out_have_a_table_and_are_escaped(written, tmp_path):
    """A score by speaker, in a column each, and what a split by rows claims; names come from the data."""
    run = train.Run.open(shutil.copytree(written.parent, tmp_path / "run"))
    cell = {"rows": 5, "features": "pretrained", "probe": "linear", "labels_per_class": "all"}
    folds = [{"fold": f"anna {HOSTILE}", "mean": 0.5125, **cell}, {"fold": "ben", "mean": 0.75, **cell}]
    more = {"folds": folds, "group": "speaker", "by_rows": {"sentence": f"That split misleads {HOSTILE}"}}
    (run.folder / "evaluation.json").write_text(json.dumps({**evaluation(), **more}))
    page = report(run, None).read_text()
    assert "Each speaker left out once" in page
    assert "0.512" in page or "0.513" in page
    assert "That split misleads" in page
    assert "<script>window" not in page
