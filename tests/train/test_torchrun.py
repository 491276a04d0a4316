"""`torchrun -m selftaught pretrain`: two processes train what one trains, and one of them writes and prints."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.shell import TINY


def pretrained(folder, *launcher: str) -> tuple[dict, dict[str, torch.Tensor], list[dict]]:
    """Printed result, weights, metrics."""
    words = ["pretrain", "digits", *TINY, "--steps", "6", "--save-every", "3", "--out", str(folder), "--json", "-q"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "selftaught", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads(done.stdout), load_file(folder / "encoder" / "model.safetensors"), metrics


def test_two_processes_train_what_one_trains(tmp_path):
    one, weights, losses = pretrained(tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0"]
    two, theirs, apart = pretrained(tmp_path / "two", *launcher)
    assert (two["steps"], two["examples"]) == (one["steps"], one["examples"]) == (6, 384)
    assert [row["step"] for row in apart] == [row["step"] for row in losses]
    # float32 sums in another order, through six steps of AdamW, which enlarges what is tiny
    assert [row["loss"] for row in apart] == pytest.approx([row["loss"] for row in losses], abs=2e-3)
    for name, value in weights.items():
        assert torch.allclose(theirs[name].float(), value.float(), atol=2e-2), name
    status = json.loads((tmp_path / "two" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("done", 6)
