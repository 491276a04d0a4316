"""look: facts as plain data, also of data that are broken."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selftaught.data import Dataset, look, open_source

from .small import Letters, Picture, encoded, picture_folder, pixels

DESIGNED = {"modality", "rows", "labels", "rejected", "duplicates", "groups", "suggestion"}


def test_facts_of_a_folder_of_pictures(tmp_path):
    picture_folder(tmp_path / "d", 20, side=16)
    (tmp_path / "d" / "cat" / "copy.png").write_bytes((tmp_path / "d" / "cat" / "0000.png").read_bytes())
    (tmp_path / "d" / "dog" / "broken.png").write_bytes(b"nothing of the kind")
    (tmp_path / "d" / "dog" / "wide.png").write_bytes(
        encoded(np.kron(pixels(1, 16, seed=4)[0], np.ones((1, 2, 1), np.uint8)))
    )
    dataset = Dataset.open(open_source(tmp_path / "d"), "image", Picture(16), max_bad=1.0)
    facts = look(dataset, suggest=lambda d: {"command": f"selftaught pretrain {d.name}", "seconds": 9.5})
    assert set(facts) >= DESIGNED
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["modality"], facts["rows"], facts["rejected"]) == ("image", 22, 1)
    assert facts["rejected_kinds"] == {"not an image": 1}
    assert facts["rejected_rows"][0]["name"] == "dog/broken.png"
    assert facts["labels"]["column"] == "label"
    assert facts["labels"]["counts"] == {"cat": 11, "dog": 11}
    assert facts["duplicates"]["exact"] == 1
    assert facts["sizes"]["width"] == {"least": 16.0, "median": 16.0, "most": 32.0}
    assert facts["groups"] is None
    assert facts["suggestion"] == {"command": "selftaught pretrain d", "seconds": 9.5}


def test_facts_of_a_table_of_texts(tmp_path):
    rows = {
        "text": [f"a text of row {i} with words" for i in range(40)],
        "patient": [f"p{i // 4}" for i in range(40)],
        "label": ["only"] * 40,
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    facts = look(Dataset.open(open_source(tmp_path / "t.parquet"), "text", Letters()))
    assert json.loads(json.dumps(facts)) == facts
    assert "one class" in facts["labels"]["problem"]
    assert facts["groups"] == {"column": "patient", "why": "the column is called 'patient'", "count": 10}
    assert facts["sizes"]["words"]["median"] == 7
    assert facts["columns"] == {"text": "text", "patient": "category", "label": "category"}
    assert facts["suggestion"] is None
