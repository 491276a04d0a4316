"""What is read of masks: folders and tables, names and ignored values, and every way in which they can be wrong."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.core import DataError, RequestError
from selftaught.data import Bad
from selftaught.data.masks import open_masks
from selftaught.data.pictures import read_mask, upright_size

from ..scenes import coded, mask_folder, scene
from ..shared import data_folder


def test_a_folder_of_palette_masks(tmp_path):
    source, column, found = open_masks(mask_folder(tmp_path / "a", rows=4))
    assert (source.rows, column) == (4, "image")
    assert (found.classes, found.values, found.ignored) == (("ground", "disc", "square"), (0, 1, 2), (255,))
    for row, payload in enumerate(found.source.payloads(found.column, found.rows)):
        np.testing.assert_array_equal(read_mask(payload), scene(row)[3])


def test_names_may_be_void_and_values_ignored(tmp_path):
    root = mask_folder(tmp_path / "a", rows=4)
    (root / "classes.txt").write_text("Void\ndisc\nsquare\nnever\n")
    found = open_masks(root)[2]
    assert (found.classes, found.values, found.ignored) == (("disc", "square", "never"), (1, 2, 3), (0, 255))
    (root / "classes.txt").unlink()
    found = open_masks(root, ignore=(2,))[2]
    assert (found.classes, found.values, found.ignored) == (("0", "1"), (0, 1), (2, 255))
    (root / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="twice"):
        open_masks(root)


def test_masks_of_black_and_white_alone_are_two_classes(tmp_path):
    root = mask_folder(tmp_path / "a", rows=3, names=False)
    for k in range(3):
        Image.fromarray(np.where(scene(k)[3] > 0, 255, 0).astype(np.uint8)).save(root / "masks" / f"{k:03}.png")
    found = open_masks(root)[2]
    assert (found.values, found.ignored) == ((0, 255), ())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: (m / "001.png").unlink(), r"1 of 4 pictures have no mask.*001\.jpg"),
        (lambda m: Image.fromarray(np.zeros((31, 40), np.uint8)).save(m / "001.png"), "40 x 31 pixels, its picture '001.jpg' 40 x 32"),
        (lambda m: Image.fromarray(np.full((32, 40), 9, np.uint8)).save(m / "001.png"), r"(?s)holds the value 9, .*--ignore 9"),
        (lambda m: (m / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken"), "'001.png' cannot be read"),
        (lambda m: Image.fromarray(scene(1)[0]).save(m / "001.png"), "it holds colours"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_right_are_named(tmp_path, spoil, said):
    root = mask_folder(tmp_path / "a", rows=4)
    spoil(root / "masks")
    with pytest.raises(DataError, match=said):
        open_masks(root)


def test_missing_masks_may_be_allowed_and_none_at_all_may_not(tmp_path):
    root = mask_folder(tmp_path / "a", rows=4)
    (root / "masks" / "001.png").unlink()
    assert open_masks(root, max_bad=0.5)[2].rows.tolist() == [0, -1, 1, 2]
    for path in (root / "masks").glob("*.png"):
        path.rename(path.with_name(f"other{path.name}"))
    with pytest.raises(DataError, match="No picture"):
        open_masks(root)


def test_shades_are_no_classes(tmp_path):
    root = mask_folder(tmp_path / "a", rows=2, names=False)
    shades = np.arange(32 * 40).reshape(32, 40).astype(np.uint8)
    for k in range(2):
        Image.fromarray(shades).save(root / "masks" / f"{k:03}.png")
    with pytest.raises(DataError, match="255 classes"):
        open_masks(root)


def test_another_value_than_the_model_knows_is_an_error(tmp_path):
    root = mask_folder(tmp_path / "a", rows=4)
    like = (("ground", "disc"), (0, 1), (255,))
    with pytest.raises(DataError, match="holds the value 2"):
        open_masks(root, like=like)


def test_tables_with_a_column_of_masks(tmp_path):
    path = tmp_path / "m.parquet"
    held = {"image": [coded(scene(k)[0]) for k in range(3)], "mask": [coded(scene(k)[3]) for k in range(3)]}
    pq.write_table(pa.table(held), path)
    _, column, found = open_masks(path)
    assert (column, found.column, found.classes) == ("image", "mask", ("0", "1", "2"))
    with pytest.raises(RequestError, match="other"):
        open_masks(path, named="other")
    pq.write_table(pa.table({"image": held["image"]}), path)
    with pytest.raises(RequestError, match="images/ and masks/"):
        open_masks(path)


@pytest.mark.parametrize(("mode", "values"), [("L", 200), ("1", 1), ("I;16", 40_000), ("P", 7)])
def test_values_of_masks_are_never_converted(mode, values):
    pixels = np.zeros((4, 6), np.uint16)
    pixels[1:3, 2:5] = values
    picture = Image.fromarray(pixels.astype(bool)) if mode == "1" else Image.fromarray(pixels if mode == "I;16" else pixels.astype(np.uint8))  # fmt: skip
    if mode == "P":
        picture.putpalette([9] * 768)
    out = io.BytesIO()
    picture.save(out, "PNG")
    np.testing.assert_array_equal(read_mask(out.getvalue()), pixels.astype(np.int64))
    with pytest.raises(Bad, match="not a mask"):
        read_mask(np.zeros((2, 2, 3), np.uint8))


def test_the_size_of_an_upright_picture_comes_from_its_header():
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(scene(0)[0]).save(out, "JPEG", exif=exif)
    assert upright_size(out.getvalue()) == (32, 40)
    with pytest.raises(Bad):
        upright_size(b"none")


def test_road_scenes():
    source, _, found = open_masks(data_folder("camvid") / "val.parquet", ignore=(11,))
    assert source.rows == 101
    assert len(found.classes) == 11
    assert found.ignored == (11, 255)
