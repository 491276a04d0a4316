"""SimCLR v2's three commands: pretrain, finetune with the labels there are, distil on the data without them."""

import pyarrow.parquet as pq

from selftaught.cli import main

from .shell import asked

NETWORK = [
    "--set", "encoder_options.widths=[16,32]", "--set", "encoder_options.blocks=[1,1]", "--set", "encoder_options.strides=[2,2]",
    "--set", "encoder_options.stem=16", "--set", "recipe.batch=64", "--set", "recipe.lr=0.01",
]  # fmt: skip


def test_a_student_of_a_finetuned_teacher_agrees_with_it(tmp_path, capsys):
    big, teacher, student = (str(tmp_path / name) for name in ("big", "teacher", "student"))
    assert main(["pretrain", "digits", "--method", "simclr-v2", *NETWORK, "--steps", "10", "--out", big, "-q"]) == 0
    assert main(["finetune", big, "digits", "--mode", "head", "--out", teacher, "-q"]) == 0
    capsys.readouterr()
    words = [
        "pretrain",
        "digits",
        "--method",
        "distil",
        "--teacher",
        teacher,
        *NETWORK,
        "--rows",
        "plain",
        "--seed",
        "1",
        "--steps",
        "60",
    ]
    code, result = asked(capsys, *words, "--out", student, "-q")
    assert code == 0
    assert result["alarms"] == []
    labels = {}
    for name, folder in (("teacher", teacher), ("student", student)):
        out = tmp_path / f"{name}.parquet"
        assert main(["predict", folder, "digits", "-o", str(out), "-q"]) == 0
        labels[name] = pq.read_table(out)["label"].to_pylist()
    agreement = sum(a == b for a, b in zip(labels["teacher"], labels["student"], strict=True)) / len(labels["teacher"])
    assert agreement > 0.7, "chance is a tenth"


def test_a_missing_teacher_is_said_in_words(tmp_path, capsys):
    code, out = asked(
        capsys,
        "pretrain",
        "digits",
        "--method",
        "distil",
        "--teacher",
        str(tmp_path / "none"),
        *NETWORK,
        "--steps",
        "1",
        "--out",
        str(tmp_path / "s"),
        "-q",
    )
    assert code == 4
    assert "no folder" in str(out)
    code, out = asked(
        capsys, "pretrain", "digits", "--method", "distil", *NETWORK, "--steps", "1", "--out", str(tmp_path / "t"), "-q"
    )
    assert code == 2
    assert "needs a teacher" in str(out)
