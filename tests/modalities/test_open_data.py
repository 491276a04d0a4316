import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from selftaught import modalities
from selftaught.core import DataError, ModelError, RequestError
from selftaught.modalities.image import Image

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))


def pictures(folder, count=6):
    for number in range(count):
        place = folder / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return folder


def test_modalities_are_found_by_file_name():
    assert {"image", "series", "text"} <= set(modalities.names())
    assert "guess" not in modalities.names()
    assert modalities.find("image") is Image
    with pytest.raises(RequestError, match="image"):
        modalities.find("imgae")
    with pytest.raises(RequestError, match="guess"):
        modalities.find("guess")


@pytest.mark.parametrize("name", modalities.names())
def test_every_modality_holds_to_the_contract(name):
    kind = modalities.find(name)
    assert kind.name == name
    assert kind.offers <= {
        "augment",
        "local",
        "turn",
        "tiles",
        "colour",
        "pixels",
        "values",
        "target",
        "patches",
        "drawn",
        "delete",
        "pairs",
        "vocabulary",
        "words",
        "sound",
    }
    for method in [
        "sniff",
        "fit",
        "decode",
        "collate",
        "plain",
        "augment",
        "local",
        "mild",
        "corrupt",
        "target",
        "encoder",
        "raw",
        "config",
        "save",
        "load",
        "toy",
    ]:
        assert callable(getattr(kind, method)), method


def test_a_folder_of_pictures(tmp_path):
    said = []
    dataset = modalities.open_data(str(pictures(tmp_path / "data")), say=said.append)
    assert (dataset.modality.name, dataset.modality.side, len(dataset)) == ("image", 16, 6)
    view = dataset.fetch(np.array([4, 0]))
    assert view["pixels"].shape == (2, 3, 16, 16)
    assert dataset.labels().classes == ("class0", "class1")
    text = "\n".join(said)
    assert "6 rows of image" in text
    assert "16 x 16 pixels, RGB" in text


def test_arrays_in_memory_and_an_encoder_settings_kept(tmp_path):
    rows = RNG.integers(0, 256, (10, 20, 20, 3), dtype=np.uint8)
    dataset = modalities.open_data(rows)
    assert torch.equal(dataset.fetch(np.arange(10))["pixels"].permute(0, 2, 3, 1), torch.from_numpy(rows))
    assert modalities.open_data(dataset) is dataset
    dataset.modality.save(tmp_path)
    loaded = modalities.load(tmp_path)
    smaller = modalities.open_data(RNG.integers(0, 256, (5, 30, 30, 3), dtype=np.uint8), modality=loaded)
    assert smaller.modality is loaded
    assert smaller.fetch([0, 1])["pixels"].shape == (2, 3, 20, 20)


def test_mixed_columns_choose_the_surest_and_say_what_was_left():
    spec = {
        "picture": RNG.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8),
        "caption": [f"a picture of thing number {n} seen from above" for n in range(8)],
        "kind": ["a", "b"] * 4,
    }
    said = []
    assert modalities.open_data(spec, say=said.append).modality.name == "image"
    assert any("--modality text" in line for line in said)
    assert modalities.open_data(spec, modality="text").modality.name == "text"
    assert modalities.open_data(spec, column="caption").modality.name == "text"


def test_what_a_ragged_modality_says_of_its_rows_is_said():
    said = []
    texts = [f"row {n} has some words " + "and some more words " * (40 * (n % 2)) for n in range(12)]
    dataset = modalities.open_data(texts, size=16, say=said.append)
    assert dataset.lengths.shape == (12,)
    assert (dataset.lengths == [len(dataset.rows([n]).values) for n in range(12)]).all()
    assert any("longer than the context of 16" in line for line in said)


def test_requests_that_cannot_be_met(tmp_path):
    spec = {"picture": RNG.integers(0, 256, (8, 12, 12), dtype=np.uint8), "kind": ["a", "b"] * 4}
    for wrong, match in (
        ({"column": "pictrue"}, "picture"), ({"label": "kinds"}, "kind"), ({"group": "patient"}, "patient"),
        ({"size": 0}, "--size 0"), ({"size": 100_000}, "4 to 4096"), ({"modality": "text"}, "no column of kind 'text'"), ({"modality": "sound"}, "sound"), ({"column": "kind", "modality": "image"}, "image"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=match):
            modalities.open_data(spec, **wrong)
    with pytest.raises(DataError, match="nothing that can be learned"):
        modalities.open_data({"kind": ["a", "b"] * 4})
    (tmp_path / "preprocessor.json").write_text('{"name": "smell"}')
    with pytest.raises(ModelError, match="smell"):
        modalities.load(tmp_path)


def test_too_many_bad_rows_stop_before_training(tmp_path):
    folder = pictures(tmp_path / "data", 20)
    (folder / "class0" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match="max-bad"):
        modalities.open_data(str(folder))
    said = []
    assert len(modalities.open_data(str(folder), max_bad=0.1, say=said.append)) == 19
    assert any("1 of 20 rows set apart" in line for line in said)
