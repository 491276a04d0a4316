"""Transcripts and labelled stretches as people keep them, and what is wrong with them."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.core import DataError, RequestError
from selftaught.data import Dataset, open_source
from selftaught.data.segments import open_segments
from selftaught.data.transcripts import transcripts
from selftaught.modalities.sound import Sound

from ..evaluation.tones import RATE, tone, wav

MODALITY = Sound(rate=RATE, context=RATE)


def folder(root, names=("a.wav", "b.wav", "sub/c.wav")):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(wav(tone(300.0 + 100 * k, 1.0)))
    return root


def dataset(spec) -> Dataset:
    source = open_source(spec)
    return Dataset.open(source, source.of_kind("sound")[0], MODALITY)


def marked(root, named=None, **more):
    held = dataset(root)
    return held.names(), open_segments(held, held.lengths / RATE, named, **more)


def test_texts_beside_sounds(tmp_path):
    folder(tmp_path)
    (tmp_path / "a.txt").write_text("Hello there\n")
    (tmp_path / "sub" / "x.trans.txt").write_text("c the last one\nd not here\n")
    held = dataset(tmp_path)
    found, where, notes = transcripts(held)
    assert dict(zip(held.names(), found)) == {"a.wav": "Hello there", "b.wav": None, "sub/c.wav": "the last one"}
    assert "2 of 3 clips" in notes[0]
    assert "beside" in where


def test_columns_of_transcripts_are_found_or_named(tmp_path):
    rows = [{"audio": wav(tone(300.0, 0.5)), "Transcript": f"number {k}", "n": k} for k in range(4)]
    rows[1]["Transcript"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    held = dataset(tmp_path / "t.parquet")
    found, column, _ = transcripts(held)
    assert column == "Transcript"
    assert found.tolist() == ["number 0", None, "number 2", "number 3"]
    with pytest.raises(RequestError, match="not text"):
        transcripts(held, "n")
    with pytest.raises(RequestError, match="Transcript"):
        transcripts(held, "Transcripts")


def test_clips_without_any_transcript_are_an_error(tmp_path):
    with pytest.raises(DataError, match="No clip"):
        transcripts(dataset(folder(tmp_path)))


def test_links_out_of_the_folder_are_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text("not for you")
    root = folder(tmp_path / "data")
    os.symlink(tmp_path / "secret.txt", root / "a.txt")
    (root / "b.txt").write_text("fine")
    found, _, _ = transcripts(dataset(root))
    assert found.tolist() == [None, "fine", None]


def test_lines_of_a_table_beside_the_sounds(tmp_path):
    folder(tmp_path)
    (tmp_path / "segments.csv").write_text(
        "filename,onset,offset,event_label\na.wav,0.1,0.4,dog\na.wav,0.5,0.7,cat\nc,0.2,0.9,dog\nsub/c.wav,0.0,0.1,cat\nz.wav,0,1,dog\n"
    )
    names, found = marked(tmp_path)
    assert found.labels == ("cat", "dog")
    by_name = dict(zip(names, found.segments))
    assert by_name["a.wav"].times.tolist() == [[0.1, 0.4], [0.5, 0.7]]
    assert by_name["a.wav"].codes.tolist() == [1, 0]
    assert by_name["sub/c.wav"].codes.tolist() == [0, 1]  # by its stem, and by its path
    assert not len(by_name["b.wav"])
    assert "1 of 5 lines name no clip" in found.notes[0]
    assert "1 of 3 clips have no stretch" in found.notes[-1]


def test_lists_in_a_table_and_lists_of_structs(tmp_path):
    rows = [
        {"audio": wav(tone(300.0, 1.0)), "start": [0.0, 0.5], "end": [0.2, 0.8], "label": ["x", "y"]},
        {"audio": wav(tone(400.0, 1.0)), "start": [], "end": [], "label": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "lists.parquet")
    _, first = marked(tmp_path / "lists.parquet")
    lines = [
        {"audio": r["audio"], "events": [{"start": a, "end": b, "label": c} for a, b, c in zip(r["start"], r["end"], r["label"])]}
        for r in rows
    ]  # fmt: skip
    kind = pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())]))
    pq.write_table(pa.Table.from_pylist(lines, schema=pa.schema([("audio", pa.binary()), ("events", kind)])), tmp_path / "structs.parquet")  # fmt: skip
    _, second = marked(tmp_path / "structs.parquet")
    for found in (first, second):
        assert np.allclose(found.segments[0].times, [[0.0, 0.2], [0.5, 0.8]])
        assert not len(found.segments[1])
        assert found.labels == ("x", "y")


def test_labels_as_audacity_writes_them(tmp_path):
    folder(tmp_path)
    (tmp_path / "a.txt").write_text("0.100000\t0.300000\tspeech\n\\\t100\t200\n0.500000\t0.600000\tloud noise\n")
    names, found = marked(tmp_path)
    assert found.labels == ("loud noise", "speech")
    assert found.segments[names.index("a.wav")].times.tolist() == [[0.1, 0.3], [0.5, 0.6]]


def test_stretches_that_are_none_are_set_apart_and_counted(tmp_path):
    folder(tmp_path)
    lines = ["a.wav,0.1,0.4,x", "a.wav,0.2,0.9,x", "a.wav,0.6,0.9,x", "a.wav,0.7,0.9,x", "b.wav,0.0,5.0,x", "b.wav,0.3,0.4,x", "a.wav,0.5,0.5,x", "a.wav,7,8,x", "a.wav,nan,1,x", "a.wav,0.1,,x", "a.wav,0.1,0.2,"]  # fmt: skip
    (tmp_path / "events.csv").write_text("file,start,end,label\n" + "\n".join(lines) + "\n")
    names, found = marked(tmp_path)
    assert found.segments[names.index("b.wav")].times.tolist() == [[0.0, 1.0], [0.3, 0.4]]  # clipped to its clip
    said = " ".join(found.notes)
    for what in ("1 of no length", "1 outside their clip", "1 without a label"):
        assert what in said
    assert "(of 11)" in said


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("file,start,end,label\na.wav,5,6,x\n", DataError, "most cannot be used"),
        ("file,start,label\na.wav,5,x\n", RequestError, "no column 'end'"),
        ("file,start,end,label\n", RequestError, "no column"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, error, match):
    folder(tmp_path)
    (tmp_path / "segments.csv").write_text(text)
    with pytest.raises(error, match=match):
        marked(tmp_path)


def test_labels_of_a_model_are_kept_to(tmp_path):
    folder(tmp_path)
    (tmp_path / "segments.jsonl").write_text(json.dumps({"file": "a.wav", "start": 0, "end": 0.5, "label": "x"}) + "\n")
    assert marked(tmp_path, labels=("w", "x"))[1].segments[0].codes.tolist() == [1]
    with pytest.raises(DataError, match="'x' is none of"):
        marked(tmp_path, labels=("w",))
    with pytest.raises(RequestError, match="no labelled stretches"):
        marked(folder(tmp_path / "bare"))


def test_a_table_with_a_line_a_stretch_is_no_table_of_clips(tmp_path):
    folder(tmp_path)
    (tmp_path / "labels.csv").write_text("file,start,end,label\na.wav,0.1,0.2,x\na.wav,0.3,0.4,y\nb.wav,0.1,0.2,x\n")
    with pytest.raises(RequestError, match=r"segments\.csv"):
        marked(tmp_path)


def test_rows_that_were_set_apart_shift_nothing(tmp_path):
    rows = [{"audio": wav(tone(300.0 + k, 1.0)) if k != 1 else b"RIFF\0\0\0\0WAVEbroken", "text": f"t{k}", "start": [0.1 * k], "end": [0.1 * k + 0.2], "label": ["x"]} for k in range(4)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    held = Dataset.open(source, "audio", MODALITY, max_bad=0.5)
    assert transcripts(held)[0].tolist() == ["t0", "t2", "t3"]
    found = open_segments(held, held.lengths / RATE)
    assert np.allclose([s.times[0, 0] for s in found.segments], [0.0, 0.2, 0.3])
