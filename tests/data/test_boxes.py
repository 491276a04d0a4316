"""What is read of boxes: COCO folders and tables, and every way in which they can be wrong."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.core import DataError, RequestError
from selftaught.data.boxes import open_boxes

from ..scenes import coco_folder, coded, scene
from ..shared import data_folder


def table(path, boxes, labels, **more):
    rows = len(boxes)
    held = {"image": [coded(scene(k)[0]) for k in range(rows)], "boxes": boxes, "labels": labels, **more}
    pq.write_table(pa.table(held), path)
    return path


def test_a_coco_folder_is_read_as_it_says(tmp_path):
    source, column, found = open_boxes(coco_folder(tmp_path / "a", rows=5))
    assert (source.rows, column) == (5, "image")
    assert found.classes == ("square", "disc")  # in the order of their numbers, 3 and 7
    assert (found.ids, found.pictures) == ((3, 7), [100, 101, 102, 103, 104])
    for row in range(5):
        _, boxes, classes, _ = scene(row)
        np.testing.assert_array_equal(found.objects[row].boxes, boxes)
        assert [found.classes[k] for k in found.objects[row].classes] == [("disc", "square")[k] for k in classes]
        assert tuple(found.sizes[row]) == (40, 32)


def test_pictures_in_a_folder_of_their_own_and_a_named_file(tmp_path):
    root = coco_folder(tmp_path / "a", rows=3)
    (root / "images").mkdir()
    for path in list(root.glob("*.png")):
        path.rename(root / "images" / path.name)
    (root / "annotations").mkdir()
    (root / "annotations.json").rename(root / "annotations" / "instances_one.json")
    assert open_boxes(root)[0].rows == 3
    (root / "annotations" / "instances_two.json").write_text("{}")
    with pytest.raises(RequestError, match="several COCO files"):
        open_boxes(root)
    assert open_boxes(root, named="instances_one.json")[0].rows == 3
    with pytest.raises(DataError, match="no list 'images'"):
        open_boxes(root, named="instances_two.json")


def test_boxes_that_cannot_be_used_are_set_apart_and_counted(tmp_path):
    def spoil(held):
        good = dict(held["annotations"][0])
        for box in ([1, 1, 0, 5], [1, 1, -2, 5], [90, 90, 5, 5], [-5, 0, 12, 40], [1, 2, float("nan"), 3], [1, 2, 3]):
            held["annotations"].append({**good, "bbox": box})
        held["annotations"] += [{**good, "image_id": 999}, {**good, "category_id": 5}, {**good, "iscrowd": 1}]

    _, _, found = open_boxes(coco_folder(tmp_path / "a", rows=8, change=spoil))
    said = " ".join(found.notes)
    for part in ("2 of no area", "1 outside their picture", "1 with numbers", "1 boxes reached out", "1 of a picture that is not listed",
                 "1 of a category that is not listed", "1 without four numbers", "1 crowds"):  # fmt: skip
        assert part in said, said
    clipped = found.objects[0].boxes[len(scene(0)[1])]
    np.testing.assert_array_equal(clipped, [0, 0, 7, 32])
    assert found.objects[0].crowd.sum() == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.pop("categories"), "no list 'categories'"),
        (lambda h: h["images"].append(dict(h["images"][0])), "twice"),
        (lambda h: h["images"][0].pop("file_name"), "without id or file_name"),
        (lambda h: h["images"][0].update(width=32, height=40), "40 x 32 pixels upright"),
        (lambda h: h["images"][0].update(file_name="../../etc/passwd"), "are not in"),
        (lambda h: h["categories"].append({"id": 3, "name": "again"}), "without a number and name of its own"),
        (lambda h: h["categories"].append({"id": 4, "name": "disc"}), "the same name"),
        (lambda h: [a.update(category_id=99) for a in h["annotations"]], "most cannot be used"),
        (lambda h: h["annotations"].clear(), "no boxes to learn from"),
        (lambda h: h["images"].clear(), "lists no pictures"),
    ],
)
def test_a_broken_coco_file_says_what_is_wrong(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        open_boxes(coco_folder(tmp_path / "a", rows=4, change=change))


def test_pictures_that_are_not_there_are_named(tmp_path):
    root = coco_folder(tmp_path / "a", rows=4)
    (root / "002.png").unlink()
    with pytest.raises(DataError, match=r"1 of the 4 pictures .*002\.png"):
        open_boxes(root)
    source, _, found = open_boxes(root, max_bad=0.5)
    assert (source.rows, len(found.objects), found.pictures) == (3, 3, [100, 101, 103])
    (root / "annotations.json").write_text("{broken")
    with pytest.raises(DataError, match="not JSON"):
        open_boxes(root)


def test_the_way_boxes_are_written_is_found_where_the_numbers_allow_one(tmp_path):
    corners = [scene(k)[1].tolist() for k in range(12)]
    labels = [[("disc", "square")[c] for c in scene(k)[2]] for k in range(12)]
    sizes = [[[a, b, c - a, d - b] for a, b, c, d in row] for row in corners]
    shares = [[[a / 40, b / 32, c / 40, d / 32] for a, b, c, d in row] for row in corners]
    centres = [[[(a + c) / 80, (b + d) / 64, (c - a) / 40, (d - b) / 32] for a, b, c, d in row] for row in corners]
    for name, rows, form in (
        ("xyxy", corners, None),
        ("xywh", sizes, None),
        ("shares", shares, None),
        ("yolo", centres, "cxcywh"),
    ):
        _, _, found = open_boxes(table(tmp_path / f"{name}.parquet", rows, labels), form=form)
        for row in range(12):
            np.testing.assert_allclose(found.objects[row].boxes, corners[row], atol=1e-4, err_msg=name)
        assert found.classes == ("disc", "square")
    ambiguous = table(tmp_path / "two.parquet", [[[2.0, 3, 12, 14]]] * 4, [["a"], ["a"], ["b"], ["b"]])
    with pytest.raises(RequestError, match="--boxes xyxy"):
        open_boxes(ambiguous)
    assert open_boxes(ambiguous, form="xywh")[2].objects[0].boxes.tolist() == [[2, 3, 14, 17]]
    with pytest.raises(RequestError, match="xyxy"):
        open_boxes(ambiguous, form="xyhw")


def test_structs_of_a_hub_set_and_classes_by_number(tmp_path):
    objects = [
        {"bbox": [[a, b, c - a, d - b] for a, b, c, d in scene(k)[1].tolist()], "category": scene(k)[2]}
        for k in range(12)
    ]
    path = tmp_path / "hub.parquet"
    pq.write_table(pa.table({"image": [coded(scene(k)[0]) for k in range(12)], "objects": objects}), path)
    _, _, found = open_boxes(path)
    assert found.classes == ("0", "1")
    np.testing.assert_allclose(found.objects[3].boxes, scene(3)[1], atol=1e-4)


def test_tables_without_boxes_or_with_other_counts_say_so(tmp_path):
    with pytest.raises(DataError, match=r"2 boxes .* 1 classes"):
        open_boxes(table(tmp_path / "a.parquet", [[[0.0, 0, 5, 5], [1, 1, 9, 9]]] * 4, [["a"]] * 4))
    path = tmp_path / "b.parquet"
    pq.write_table(pa.table({"image": [coded(scene(k)[0]) for k in range(4)], "name": list("abcd")}), path)
    with pytest.raises(RequestError, match="--labels"):
        open_boxes(path)
    with pytest.raises(RequestError, match="nosuch"):
        open_boxes(path, named="nosuch")
    Image.fromarray(scene(0)[0]).save(tmp_path / "one.png")
    with pytest.raises(RequestError, match=r"annotations\.json"):
        open_boxes(tmp_path / "one.png")


def test_another_class_than_the_model_knows_is_an_error(tmp_path):
    root = coco_folder(tmp_path / "a", rows=4)
    assert open_boxes(root, classes=("square", "disc", "more"))[2].classes == ("square", "disc", "more")
    with pytest.raises(DataError, match="'disc', which is none"):
        open_boxes(root, classes=("square",))


def test_a_turned_photograph_is_found_out(tmp_path):
    root = coco_folder(tmp_path / "a", rows=4)
    picture = Image.open(root / "001.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(root / "001.png", exif=exif)
    with pytest.raises(DataError, match="32 x 40 pixels upright"):
        open_boxes(root)


def test_blood_cells():
    source, column, found = open_boxes(data_folder("bccd") / "test.parquet")
    assert (source.rows, column, found.classes) == (72, "image", ("Platelets", "RBC", "WBC"))
    counts = np.bincount(np.concatenate([o.classes for o in found.objects]))
    assert counts.tolist() == [69, 805, 71]
    assert all((o.boxes >= 0).all() and (o.boxes <= [256, 192, 256, 192]).all() for o in found.objects)
    assert json.dumps(found.notes).count("xyxy") == 1
