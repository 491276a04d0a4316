"""Planted mismatches between a pretrained image model and pictures: each is said, with its remedy, and nothing else is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, ViTConfig

from selftaught import nets
from selftaught.core import Draw, Facts, ModelError, RequestError
from selftaught.modalities import find, open_data
from selftaught.nets.borrowed import quiet

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 4}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def folder(path, processor, **config):
    torch.manual_seed(0)
    path.mkdir()
    with quiet():
        AutoModel.from_config(ViTConfig(**{**SIZES, "image_size": 32, **config})).save_pretrained(path)
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def pictures(side: int, channels: int = 3, rows: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(rows, 1, 1, channels)) + rng.normal(size=(rows, side, side, channels))
    return np.clip(110 + 55 * smooth, 0, 255).astype(np.uint8).squeeze(3 if channels == 1 else ())


def found(encoder, rows, *, size=None, own=False):
    data = open_data(rows, size=size)
    places = np.arange(len(rows))
    payloads = [data.payload(i) for i in places]
    said = data.modality.mismatches(encoder, data.fetch(places), payloads, own)
    assert all(set(s) == {"kind", "text", "remedy"} for s in said)
    return {s["kind"]: s for s in said}


def load(path, **options):
    return nets.build("transformers", source=str(path), **options)


def test_a_model_that_fits_is_left_alone(tmp_path):
    assert found(load(folder(tmp_path / "m", IMAGENET)), pictures(32)) == {}


def test_small_pictures_in_a_large_model(tmp_path):
    encoder = load(folder(tmp_path / "m", IMAGENET, image_size=128))
    as_they_are = found(encoder, pictures(32))
    assert set(as_they_are) == {"size", "positions"}
    assert "made for pictures of 128 pixels and gets 32, 8 patches a side instead of 32" in as_they_are["size"]["text"]
    assert "--size 128" in as_they_are["size"]["remedy"]
    assert "from 32 x 32 patches to 8 x 8" in as_they_are["positions"]["text"]
    enlarged = found(encoder, pictures(32), size=128)
    assert set(enlarged) == {"upscaled"}
    assert "about 32 pixels are enlarged 4.0 times, to 128" in enlarged["upscaled"]["text"]
    assert "16 times the work" in enlarged["upscaled"]["text"]
    assert "--size 32" in enlarged["upscaled"]["remedy"]


def test_a_slightly_other_size_is_interpolated_positions_alone(tmp_path):
    assert set(found(load(folder(tmp_path / "m", IMAGENET)), pictures(40))) == {"positions"}


def test_grey_pictures_in_a_model_of_colours(tmp_path):
    encoder = load(folder(tmp_path / "m", IMAGENET))
    rows = pictures(32, 1)
    assert set(found(encoder, rows)) == {"grey"}
    data = open_data(rows)
    grey = data.fetch(np.arange(3))
    with torch.no_grad():
        three = grey.with_parts(pixels=grey["pixels"].expand(-1, 3, -1, -1))
        assert torch.equal(encoder(grey), encoder(three))


def test_colours_in_a_model_of_grey_are_refused(tmp_path):
    encoder = load(folder(tmp_path / "m", None, num_channels=1), mean=(0.5,), std=(0.25,))
    with pytest.raises(RequestError, match="takes 1 channel; these pictures have 3"):
        found(encoder, pictures(32))


def test_a_missing_preprocessor_is_said_and_cured_by_its_remedy(tmp_path):
    path = folder(tmp_path / "m", None)
    said = found(load(path), pictures(32))
    assert set(said) == {"normalisation"}
    assert "ImageNet's are assumed" in said["normalisation"]["text"]
    assert "encoder_options.mean" in said["normalisation"]["remedy"]
    assert found(load(path, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2)), pictures(32)) == {}
    half = folder(tmp_path / "half", {"image_mean": [0.5, 0.5, 0.5]})
    assert "record the std of" in found(load(half), pictures(32))["normalisation"]["text"]


def test_a_mean_on_the_scale_of_255_is_said_where_the_file_says_that_pixels_are_rescaled(tmp_path):
    wrong = {"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}
    said = found(load(folder(tmp_path / "m", wrong)), pictures(32))
    assert set(said) == {"scale"}
    assert "another scale" in said["scale"]["text"]


@pytest.mark.parametrize(
    ("processor", "factor", "shift"),
    [
        ({"do_rescale": False, "image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}, 1, 0),
        ({"rescale_factor": 1, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, 1, 0),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, 1 / 127.5, 1),
        ({"do_rescale": False, "do_normalize": False}, 1, 0),
        ({"rescale_factor": 1 / 255, **IMAGENET}, 1 / 255, 0),
    ],
)
def test_the_preprocessors_own_scale_is_kept(processor, factor, shift, tmp_path):
    """(pixels in 0-255 x factor - shift - mean) / std, in float64, is what the encoder's normalisation gives."""
    encoder = load(folder(tmp_path / "m", processor))
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    normal = processor.get("do_normalize", True)
    mean, std = (torch.tensor(processor.get(k, [d] * 3) if normal else [d] * 3, dtype=torch.float64)[:, None, None] for k, d in (("image_mean", 0.0), ("image_std", 1.0)))  # fmt: skip
    wanted = (pixels.double() * factor - shift - mean) / std
    assert (encoder.normalise(pixels).double() - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert encoder.assumed == ()


def test_a_rescale_factor_that_is_none_is_refused(tmp_path):
    for factor in (0, -1, "x", True):
        path = folder(tmp_path / f"m{factor}", {"rescale_factor": factor, **IMAGENET})
        with pytest.raises(ModelError, match="rescale_factor"):
            load(path)


def test_pictures_that_no_patch_divides_are_refused_with_a_size():
    vit = nets.build("vit", image_size=32, patch=8, width=16, depth=1, heads=2)
    with pytest.raises(RequestError, match=r"does not take pictures of 30 x 30(.|\n)*--size 32"):
        found(vit, pictures(30))


def test_crops_are_of_sizes_that_the_encoder_takes():
    image, facts = find("image")(side=36), Facts(rows=10, modality=None)
    free, vit = nets.build("resnet-small"), nets.build("vit", image_size=36, patch=6, width=16, depth=1, heads=2)
    assert image.multiple(free, facts) is None
    assert image.multiple(vit, facts) == 6
    data = open_data(pictures(36))
    facts = replace(facts, multiple=6)
    for make in (data.modality.augment, data.modality.local):
        for progress in (0.0, 0.9):
            view = make(facts)(data.fetch(np.arange(4)), Draw(torch.arange(4), 0, 0, 0, progress))
            assert view["pixels"].shape[2] % 6 == 0
            with torch.no_grad():
                assert vit(view).shape == (4, 16)
