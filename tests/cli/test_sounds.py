"""A folder of sounds whose names say what they are, from look to a verdict with spoiled rows."""

from selftaught.modalities.sound import Sound

from .shell import asked, run

NAMES = ["--names", "{word}_{speaker}_{}"]


def test_names_give_labels_and_groups_and_test_rows_are_spoiled(tmp_path, capsys):
    clips, factors = Sound.toy(72, 0)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, clip in enumerate(clips):
        (folder / f"{factors['word'][number] % 2}_s{number % 6}_{number}.wav").write_bytes(clip)
    code, facts = asked(capsys, "look", str(folder), *NAMES, "-q")
    assert code == 0
    assert (facts["modality"], facts["rows"], facts["groups"]["column"]) == ("sound", 72, "speaker")
    assert facts["sounds"]["rates"] == {"8000": 72}
    assert [one["column"] for one in facts["sounds"]["told"]] == ["speaker"]
    _, said, _ = run(capsys, "look", str(folder), *NAMES, "-q")
    assert "length, peak, RMS and offset alone tell 'speaker' (group, 6 of them)" in said
    out = str(tmp_path / "run")
    code, _ = asked(
        capsys, "pretrain", str(folder), *NAMES, "--group", "speaker", "--method", "simclr", "--steps", "2", "--set", "recipe.batch=16",
        "--out", out, "-q",
    )  # fmt: skip
    assert code == 0
    code, found = asked(
        capsys, "evaluate", out, str(folder), *NAMES, "--labels", "word", "--group", "speaker", "--draws", "2", "--seeds", "1", "--budgets", "2",
        "--controls", "raw", "--robustness", "-q",
    )  # fmt: skip
    assert code == 0
    assert {row["corruption"] for row in found["robustness"]["rows"]} == {
        "none",
        "noise",
        "reverberation",
        "band",
        "clipping",
        "level",
    }
    code, error = asked(capsys, "evaluate", out, str(folder), "--names", "{word}", "--labels", "speaker", "-q")
    assert (code, error["error"]["kind"]) == (2, "request")
