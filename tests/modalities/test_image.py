import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageOps
from sklearn.linear_model import LogisticRegression

from selftaught.core import DataError, Draw, Facts, ModelError, RequestError, View
from selftaught.data import open_source
from selftaught.data.bad import Bad
from selftaught.modalities.image import Image, patch_of

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.linspace(0, 255, 90), np.linspace(255, 0, 60)), np.full((60, 90), 77.0)], 2).astype(
    np.uint8
)


def encoded(picture, kind="PNG", **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def square(side=40, channels=3):
    return Image(side, channels, (0.5,) * channels, (0.25,) * channels)


def palette(transparent):
    picture = Pillow.fromarray(PIXELS).quantize(17)
    if transparent:
        picture.info["transparency"] = 3
    return picture


SIXTEEN = (np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)
PICTURES = {
    "png": (Pillow.fromarray(PIXELS), "PNG", {}),
    "jpeg": (Pillow.fromarray(PIXELS), "JPEG", {}),
    "grey": (Pillow.fromarray(PIXELS[..., 0]), "PNG", {}),
    "palette": (palette(False), "PNG", {}),
    "cmyk": (Pillow.fromarray(PIXELS).convert("CMYK"), "JPEG", {}),
    "bits": (Pillow.fromarray(PIXELS[..., 0]).convert("1"), "PNG", {}),
    "webp": (Pillow.fromarray(PIXELS), "WEBP", {"lossless": True}),
    "tiff": (Pillow.fromarray(PIXELS), "TIFF", {}),
    "bmp": (Pillow.fromarray(PIXELS), "BMP", {}),
    "ppm": (Pillow.fromarray(PIXELS), "PPM", {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_decoded_pictures_are_pillows(name):
    picture, kind, options = PICTURES[name]
    data = encoded(picture, kind, **options)
    reference = Pillow.open(io.BytesIO(data))
    row = square().decode(data)
    assert row.dtype == np.uint8
    assert np.array_equal(row, np.asarray(reference.convert("RGB")))
    assert np.array_equal(
        square(channels=1).decode(data)[..., 0], np.asarray(reference.convert("RGB").convert("L"))
    ) or name in ("grey", "bits")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = encoded(Pillow.fromarray(PIXELS[:40, :30]), "JPEG", exif=exif, quality=95)
    wanted = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    whole = square(30).decode(data)
    middle = wanted.crop((0, 5, 30, 35) if wanted.height == 40 else (5, 0, 35, 30))
    assert np.array_equal(whole, np.asarray(middle))


def test_sixteen_bits_alpha_and_the_first_frame():
    wide = square().decode(encoded(Pillow.fromarray(SIXTEEN)))
    assert np.array_equal(wide, np.repeat((SIXTEEN >> 8).astype(np.uint8)[..., None], 3, 2))
    opaque = Pillow.fromarray(np.concatenate([PIXELS, np.full((40, 40, 1), 255, np.uint8)], 2))
    assert np.array_equal(square().decode(encoded(opaque)), PIXELS)
    grey = Pillow.fromarray(np.stack([PIXELS[..., 1], np.full((40, 40), 255, np.uint8)], 2))
    assert np.array_equal(square(channels=1).decode(encoded(grey))[..., 0], PIXELS[..., 1])
    frames = [Pillow.fromarray(PIXELS[..., n]) for n in range(3)]
    film = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(square(channels=1).decode(film)[..., 0], PIXELS[..., 0])


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (60, 60)])
def test_the_middle_square_is_resized_with_antialiasing(shape):
    picture = Pillow.fromarray(SMOOTH).resize((shape[1], shape[0]))
    wanted = ImageOps.fit(picture, (20, 20), Pillow.Resampling.BILINEAR)
    row = square(20).decode(encoded(picture))
    assert np.abs(row.astype(int) - np.asarray(wanted).astype(int)).max() <= 3


def test_arrays_and_paths_are_payloads_too(tmp_path):
    assert np.array_equal(square().decode(PIXELS), PIXELS)
    assert np.array_equal(square(channels=1).decode(PIXELS[..., 0])[..., 0], PIXELS[..., 0])
    Pillow.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(square().decode(str(tmp_path / "a.png")), PIXELS)
    with pytest.raises(Bad, match="unreadable"):
        square().decode(str(tmp_path / "absent.png"))
    five = RNG.integers(0, 256, (40, 40, 5), dtype=np.uint8)
    assert np.array_equal(square(40, 5).decode(five), five)
    half = square(20, 5).decode(five)
    wanted = np.asarray(Pillow.fromarray(five[..., 4]).resize((20, 20), Pillow.Resampling.BILINEAR))
    assert np.array_equal(half[..., 4], wanted)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all", "not an image"),
        (encoded(Pillow.fromarray(PIXELS))[:-800], "broken|truncated"),
        (encoded(Pillow.fromarray(PIXELS), "JPEG")[:200], "truncated|broken"),
        (encoded(Pillow.new("1", (9000, 9000))), "bomb"),
        (encoded(Pillow.new("L", (2000, 1))), "absurd"),
        (np.zeros((0, 4, 3), np.uint8), "zero"),
        (np.zeros((4, 4, 3)), "not an image"),
        (np.zeros((4, 4, 7), np.uint8), "unlike"),
        (None, "not an image"),
    ],
)
def test_rows_that_cannot_be_read_are_set_apart_with_a_reason(payload, reason):
    with pytest.raises(Bad, match=reason):
        square().decode(payload)


def test_a_picture_among_many_channels_is_set_apart():
    with pytest.raises(Bad, match="5 channels"):
        square(40, 5).decode(encoded(Pillow.fromarray(PIXELS)))


def test_collate_is_the_same_memory_in_channels_last():
    rows = RNG.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    pixels = square(6).collate(rows)["pixels"]
    assert pixels.shape == (4, 3, 6, 6)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert pixels.data_ptr() == rows.ctypes.data
    rows.flags.writeable = False
    assert torch.equal(square(6).collate(rows)["pixels"], pixels)


def folder(tmp_path, sizes, mode="RGB"):
    for number, size in enumerate(sizes):
        noise = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Pillow.fromarray(noise).convert(mode).save(tmp_path / f"{number:03}.png")
    return open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("sizes", "mode", "side", "channels"),
    [
        ([(32, 32)] * 3, "RGB", 32, 3),
        ([(28, 28)] * 3, "L", 28, 1),
        ([(50, 40)] * 3, "RGB", 40, 3),
        ([(100, 80), (70, 90), (71, 71)], "RGB", 64, 3),
        ([(700, 500), (640, 480), (600, 900)], "RGB", 128, 3),
        ([(200, 200)] * 2, "RGB", 128, 3),
    ],
)
def test_fit_chooses_the_side_and_says_why(tmp_path, monkeypatch, sizes, mode, side, channels):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = folder(tmp_path, sizes, mode)
    guess = Image.sniff(source)
    fitted = Image.fit(source, guess.column)
    assert (fitted.side, fitted.channels, fitted.shape) == (side, channels, (side, side, channels))
    assert fitted.why
    assert fitted.why in fitted.describe()
    rows = np.stack([fitted.decode(p) for p in source.payloads(guess.column)]) / 255
    np.testing.assert_allclose(fitted.mean, rows.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(fitted.std, rows.std((0, 1, 2)), atol=1e-4)
    assert Image.fit(source, guess.column, size=24).side == 24


def test_fit_leaves_broken_rows_out_and_needs_one_sound(tmp_path):
    source = folder(tmp_path, [(32, 32)] * 3)
    (tmp_path / "000.png").write_bytes(encoded(Pillow.fromarray(PIXELS))[:200])
    assert Image.fit(source, "image").side == 32
    for path in tmp_path.iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match="None of the first rows"):
        Image.fit(source, "image")


def test_a_table_without_pictures_is_not_one_of_images():
    assert Image.sniff(open_source({"text": ["a b c d e", "f g h i j"], "n": np.arange(2)})) is None


def test_target_is_the_normalised_pixels_of_each_patch():
    modality = Image(8, 3, (0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    view = modality.collate(RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
    target = modality.target(view, (2, 4))
    assert (target.kind, target.width, target.outputs) == ("value", 24, 24)
    assert bool(target.valid.all())
    pixels = view["pixels"].numpy() / 255
    for row, i, j in np.ndindex(2, 2, 4):
        patch = pixels[row, :, 4 * i : 4 * i + 4, 2 * j : 2 * j + 2]
        wanted = [
            (patch[c, y, x] - modality.mean[c]) / modality.std[c] for y in range(4) for x in range(2) for c in range(3)
        ]
        np.testing.assert_allclose(target.values[row, 4 * i + j].numpy(), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="do not divide"):
        modality.target(view, (3, 3))


def test_corrupt_marks_patches_and_turn_turns():
    modality, view = square(8), square(8).collate(RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    chosen = torch.arange(16).expand(4, -1) % 3 == 0
    marked = modality.corrupt(view, chosen, (4, 4), Draw(torch.arange(4)))
    assert torch.equal(marked["masked"], chosen)
    assert torch.equal(marked["pixels"], view["pixels"])
    with pytest.raises(ValueError, match="choices"):
        modality.corrupt(view, chosen, (2, 4), Draw(torch.arange(4)))
    for turns in range(4):
        wanted = np.rot90(view["pixels"].numpy(), turns, (2, 3))
        assert np.array_equal(modality.turn(view, turns)["pixels"].numpy(), wanted)
        assert np.array_equal(modality.turn(view, torch.full((4,), turns))["pixels"].numpy(), wanted)


def test_raw_is_the_pixels_averaged_to_32():
    small = square(8).collate(RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
    assert torch.equal(square(8).raw(small), (small["pixels"] / 255).flatten(1))
    large = square(96).collate(np.repeat(np.repeat(RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8), 3, 1), 3, 2))
    raw = square(96).raw(large)
    assert raw.shape == (2, 3 * 32 * 32)
    assert abs(float(raw.mean()) - float(large["pixels"].float().mean()) / 255) < 0.01


@pytest.mark.parametrize("side", [8, 12, 28, 32, 64, 96, 144])
@pytest.mark.parametrize("needs", [frozenset(), frozenset({"tokens", "mask"})])
def test_default_encoders_take_their_own_views(side, needs):
    modality = square(side, 1 if side == 28 else 3)
    facts = Facts(rows=100, modality=modality)
    encoder = modality.encoder(facts, needs).eval()
    assert needs <= encoder.can
    raw = modality.collate(RNG.integers(0, 256, (2, *modality.shape), dtype=np.uint8))
    draw = Draw(torch.arange(2))
    steps = ("plain", "mild") if needs else ("plain", "mild", "augment", "local")
    for step in steps:
        with torch.no_grad():
            assert encoder(getattr(modality, step)(facts)(raw, draw)).shape == (2, encoder.dim)
    if needs:
        grid = encoder.tokenize(modality.mild(facts)(raw, draw)).grid
        assert 16 <= grid[0] * grid[1] <= 200
        assert modality.target(raw, grid).values.shape[1] == grid[0] * grid[1]


def test_encoders_by_name_and_for_a_gpu():
    modality = Image(32, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    cpu, gpu = Facts(rows=10, modality=modality), Facts(rows=10, modality=modality, device="cuda")
    assert modality.encoder(cpu, frozenset()).kind == "resnet-small"
    assert modality.encoder(gpu, frozenset()).config()["options"]["depth"] == 18
    named = modality.encoder(cpu, frozenset(), "resnet34")
    assert (named.config()["options"]["depth"], named.dim) == (34, 512)
    assert named.config()["options"]["mean"] == (0.1, 0.2, 0.3)
    assert modality.encoder(cpu, frozenset(), "vit", width=64, depth=1, heads=2).dim == 64
    with pytest.raises(RequestError, match="resnet"):
        modality.encoder(cpu, frozenset(), "resnet19")


@pytest.mark.parametrize(
    ("side", "grid", "patch"),
    [(32, 8, 4), (28, 8, 4), (8, 8, 2), (224, 14, 16), (144, 8, 18), (96, 8, 12), (37, 8, 37)],
)
def test_patches_divide_the_side(side, grid, patch):
    assert patch_of(side, grid) == patch


def test_saved_settings_come_back(tmp_path):
    modality = Image(48, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), why="as asked")
    modality.save(tmp_path)
    again = Image.load(tmp_path)
    assert again == modality
    assert dataclasses.asdict(again)["mean"] == (0.1, 0.2, 0.3)
    assert again.config() == modality.config() == json.loads((tmp_path / "preprocessor.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"side": "48"}, {"side": 0}, {"side": 10**9}, {"channels": 2}, {"std": [0.1, 0.0, 0.3]}, {"mean": [[1]]},
        {"extra": 1}, {"name": "text"}, {"mean": None},
    ],
)  # fmt: skip
def test_broken_settings_are_refused(tmp_path, change):
    held = Image(48, 3).config() | change
    (tmp_path / "preprocessor.json").write_text(json.dumps(held))
    with pytest.raises(ModelError, match="preprocessor"):
        Image.load(tmp_path)


def test_crops_grow_on_a_processor_only():
    modality = square(32)
    cpu, gpu = Facts(rows=10, modality=modality), Facts(rows=10, modality=modality, device="cuda")
    raw = modality.collate(RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    early, late = Draw(torch.arange(2), progress=0.1), Draw(torch.arange(2), progress=0.95)
    sides = [modality.augment(f)(raw, d)["pixels"].shape[2] for f in (cpu, gpu) for d in (early, late)]
    assert sides[0] < sides[1] <= 32
    assert sides[2:] == [32, 32]


def test_toy_factors_can_be_found_in_the_pixels():
    payloads, factors = Image.toy(400, 1)
    pixels = np.stack(payloads).astype(float)
    again, same = Image.toy(400, 1)
    assert np.array_equal(np.stack(again), np.stack(payloads))
    assert all(np.array_equal(factors[k], same[k]) for k in factors)
    assert not np.array_equal(np.stack(Image.toy(400, 2)[0]), np.stack(payloads))
    saturation = pixels.max(3) - pixels.min(3)  # the ground is grey, shapes are not
    inside = saturation > 60
    right, down = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
    area = inside.sum((1, 2))
    for name, axis in (("x", right), ("y", down)):
        found = (inside * axis).sum((1, 2)) / area
        assert np.corrcoef(found, factors[name])[0, 1] > 0.98
    for shape in range(4):
        rows = factors["shape"] == shape
        assert np.corrcoef(np.sqrt(area[rows]), factors["size"][rows])[0, 1] > 0.9
    colour = (pixels * inside[..., None]).sum((1, 2)) / area[:, None]
    ground = np.where(inside, np.nan, pixels.mean(3))
    rough = (
        np.nanstd(ground, (1, 2)),
        np.nanmean(abs(np.diff(ground, axis=2)), (1, 2)),
        np.nanmean(abs(ground[:, 4:, 4:] - ground[:, :-4, :-4]), (1, 2)),
    )
    extent = [np.ptp(np.where(inside, axis, np.nan)[n][inside[n]]) for axis in (right, down) for n in range(400)]
    wide, high = np.split(np.array(extent), 2)
    middle = [inside[n, int(y) - 2 : int(y) + 3, :].sum() for n, y in enumerate(factors["y"])]
    form = np.stack([area / (wide * high), np.array(middle) / wide, high / wide], 1)
    for name, features in (("colour", colour), ("texture", np.stack(rough, 1)), ("shape", form)):
        scaled = (features - features.mean(0)) / features.std(0)
        probe = LogisticRegression(max_iter=200).fit(scaled[:200], factors[name][:200])
        assert probe.score(scaled[200:], factors[name][200:]) > 0.9, name
    table = np.corrcoef(np.stack(list(factors.values())))
    assert abs(table - np.eye(len(table))).max() < 0.2  # independent


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (96, 12), (40, 5), (100, 10), (64, 8), (28, 14)])
def test_crops_are_what_a_vision_transformer_of_that_patch_takes(side, patch):
    modality = Image(side=side)
    raw = View("image", parts={"pixels": torch.zeros(2, 3, side, side, dtype=torch.uint8)})
    given = Facts(rows=2, modality=modality, multiple=patch)
    for change in (modality.augment(given), modality.local(given)):
        for progress in (0.0, 0.9):
            made = change(raw, Draw(torch.arange(2), progress=progress))["pixels"].shape[-1]
            assert made % patch == 0
            assert 0 < made <= side
