"""README's commands and Python, run as they stand on small data; only the length of pretraining is shortened."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftaught import modalities

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photos/, labelled/ (a folder a class) and new/."""
    root = tmp_path_factory.mktemp("readme")
    pictures, factors = modalities.find("image").toy(96, 0)
    kind = next(v for v in factors.values() if 2 <= len(np.unique(v)) <= 6)
    for k, picture in enumerate(pictures):
        for name in [root / "photos", root / "new", root / "labelled" / f"class-{kind[k]}"]:
            name.mkdir(parents=True, exist_ok=True)
            if name.name != "new" or k < 5:
                Image.fromarray(np.asarray(picture).squeeze()).save(name / f"{k}.png")
    return root


def shortened(text: str) -> str:
    return text.replace("--minutes 10", "--minutes 0.02").replace("minutes=10", "minutes=0.02")


def test_the_commands_of_a_run_on_a_folder(place):
    (commands,) = [block for block in blocks("") if block.startswith("selftaught look photos")]
    lines = [line.split("#")[0].strip() for line in commands.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(shortened(line))
        assert words[0] == "selftaught"
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=place, capture_output=True, text=True, timeout=300, env={**os.environ}
        )
        assert done.returncode == 0, (line, done.stderr[-2000:])
    assert (place / "run" / "report.html").exists()
    assert (place / "predictions.parquet").exists()


@pytest.mark.slow
def test_the_commands_of_a_language_model(tmp_path):
    texts, factors = modalities.find("text").toy(900, 0)
    rows = [{"text": t, "label": int(k)} for t, k in zip(texts, factors["topic"], strict=True)]
    with open(tmp_path / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    (commands,) = [block for block in blocks("") if block.startswith("selftaught look reviews")]
    for line in commands.splitlines():
        words = shlex.split(re.sub(r"--minutes \d+", "--minutes 0.05", line.split("#")[0]))
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ},
        )
        assert done.returncode == 0, (line, done.stderr[-2000:])
    assert (tmp_path / "embedder" / "modules.json").exists()


@pytest.mark.slow
def test_the_commands_on_sounds(tmp_path):
    clips, factors = modalities.find("sound").toy(90, 0)
    for number, (clip, word) in enumerate(zip(clips, factors["word"] % 3, strict=True)):
        folder = tmp_path / "clips" / f"word{word}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.wav").write_bytes(clip)
    (commands,) = [block for block in blocks("") if block.startswith("selftaught look clips")]
    for line in commands.splitlines():
        words = shlex.split(shortened(line.split("#")[0]))
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ},
        )
        assert done.returncode == 0, (line, done.stderr[-2000:])
    assert (tmp_path / "heard.csv").exists()


def test_the_python(place):
    for k, block in enumerate(blocks("python")):
        code = (
            shortened(block)
            .replace('out="run"', f'out="python-{k}"')
            .replace('evaluate("run"', f'evaluate("python-{k}"')
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (block, done.stderr[-2000:])
