"""Columns from file names: what a template reads, and every way in which it can be wrong."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import DataError, RequestError
from selftaught.data import open_source
from selftaught.data.arrays import Arrays
from selftaught.data.names import Named, compiled, named
from selftaught.modalities import open_data

from .small import encoded, pixels


class Files(Arrays):
    """Rows that are called as files would be."""

    def __init__(self, names: list[str], **columns):
        super().__init__("files", {"text": [f"the text of row {i}, which is long enough" for i in range(len(names))], **columns})
        self._names = names

    def row_name(self, row: int) -> str:
        return self._names[row]


def read(template: str, *names: str) -> dict[str, list]:
    source = Named(Files(list(names)), template)
    return {name: source.values(name).tolist() for name in source.columns if name != "text"}


def test_fields_are_columns_of_numbers_or_words():
    found = read("{label}_{speaker}_{take}", "7_jackson_32.wav", "0_theo_5.wav", "9_george_0.wav")
    assert found == {"label": [7, 0, 9], "speaker": ["jackson", "theo", "george"], "take": [32, 5, 0]}
    source = Named(Files(["7_a_0.5.wav", "8_b_1.5.wav"]), "{label}_{speaker}_{level}")
    assert source.columns == {"text": "text", "label": "integer", "speaker": "category", "level": "number"}
    assert read("{a}-{b}", "01-x.flac", "02-y.flac")["a"] == ["01", "02"], "zeros in front are part of a name"


def test_a_field_takes_little_the_last_the_rest_and_braces_alone_keep_nothing():
    assert read("{word}_{rest}", "a_b_c.wav", "d_e_f.wav") == {"word": ["a", "d"], "rest": ["b_c", "e_f"]}
    assert read("{}_nohash_{take}", "0a7c_nohash_0.wav", "1b_nohash_1.wav") == {"take": [0, 1]}
    assert read("{a}_end", "x_end_end.wav", "y_end.wav") == {"a": ["x_end", "y"]}
    assert read("{{{a}}}", "{one}.wav", "{two}.wav") == {"a": ["one", "two"]}


def test_slashes_reach_into_folders_and_no_slash_stays_in_the_file_s_name():
    found = read("{word}/{speaker}_nohash_{take}", "train/yes/0a_nohash_0.wav", "train/no/1b_nohash_1.wav")
    assert found == {"word": ["yes", "no"], "speaker": ["0a", "1b"], "take": [0, 1]}
    assert read("{name}", "train/yes/0a.wav", "b.c.wav") == {"name": ["0a", "b.c"]}
    assert read("{key}-{n}", "shard-01.tar:yes/a-1", "shard-02.tar:yes/b-2") == {"key": ["a", "b"], "n": [1, 2]}


def test_names_that_do_not_fit_are_counted_and_have_no_value():
    source = Named(Files(["1_a.wav", "readme.wav", "2_b.wav"]), "{label}_{speaker}")
    assert source.values("label").tolist() == ["1", None, "2"]
    assert source.values("speaker").tolist() == ["a", None, "b"]
    assert any("1 of 3 names do not fit" in note and "readme.wav" in note for note in source.notes)
    assert [str(p) for p in source.payloads("speaker", [2, 1])] == ["b", "no value"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("nothing", "names no column"), ("{}_{}", "names no column"), ("", "names no column"), ("{a", "no template"), ("a}", "no template"),
        ("{a:d}", "no name of a column"), ("{a!r}", "no name of a column"), ("{a.b}", "no name of a column"), ("{0}", "no name of a column"),
        ("{a b}", "no name of a column"), ("{a}{b}", "nothing stands between"), ("{a}_{a}", "twice"), ("{text}_{b}", "a column 'text' already"),
    ],
)  # fmt: skip
def test_a_wrong_template_is_said(template, says):
    with pytest.raises(RequestError, match=says):
        Named(Files(["1_a.wav", "2_b.wav"]), template)


def test_no_name_that_fits_is_said_with_the_first_name():
    with pytest.raises(DataError, match=r"None of the 2 names fits .* the first is 'one.wav'"):
        Named(Files(["one.wav", "two.wav"]), "{a}_{b}")


words = st.text(st.characters(codec="utf-8", exclude_characters="/_.:\x00", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=6))
def test_what_was_written_is_read_back(rows):
    source = Named(Files([f"folder/{a}_{b}_{c}.wav" for a, b, c in rows]), "{first}_{second}_{third}")
    read_back = zip(*(map(str, source.values(name).tolist()) for name in ("first", "second", "third")))
    assert [tuple(r) for r in read_back] == rows


def test_a_hostile_name_costs_no_more_than_another():
    pattern, _, _ = compiled("_".join(f"{{f{i}}}" for i in range(9)) + "!")
    began = time.perf_counter()
    assert pattern.fullmatch("_" * 250) is None
    assert time.perf_counter() - began < 5, "backtracking over nine fields would take years"


def test_without_a_template_the_source_stays_and_with_one_what_is_packed_serves_again():
    source = Files(["1_a.wav", "2_b.wav"])
    assert named(source, None) is source
    assert Named(source, "{a}_{b}").fingerprint() == source.fingerprint()


def test_a_folder_of_pictures_has_groups_and_labels_by_its_names(tmp_path):
    for number, picture in enumerate(pixels(12, 8)):
        (tmp_path / f"{number % 2}_patient{number // 4}_{number}.png").write_bytes(encoded(picture))
    said: list[str] = []
    dataset = open_data(tmp_path, names="{label}_{patient}_{}", group="patient", say=said.append)
    assert dataset.labels().column == "label"
    assert dataset.labels().counts() == {"0": 6, "1": 6}
    order = np.argsort([int(name.split("_")[2][:-4]) for name in dataset.names()])
    assert dataset.groups()[order].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert any("'patient' (3 different)" in line for line in said)
    assert open_source(tmp_path).columns == {"image": "image"}
