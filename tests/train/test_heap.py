"""Freed memory stays: a step that asks again for what the step before it gave back finds it mapped."""

import os
import subprocess
import sys

import pytest

STEPS = """
import resource, sys, torch
from selftaught import nets
from selftaught.core import View
from selftaught.train.heap import keep_freed_memory
torch.set_num_threads(1)
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
net = nets.build("resnet-small").to(memory_format=torch.channels_last)
view = View("image", parts={"pixels": torch.rand(256, 3, 24, 24).contiguous(memory_format=torch.channels_last)})
counts = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    net(view).square().mean().backward()
    net.zero_grad()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, sorted(counts[3:])[2])
"""


def faults(word: str, **environment: str) -> tuple[str, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, word], capture_output=True, text=True, check=True, env={**clean, **environment}
    )
    kept, count = done.stdout.split()
    return kept, int(count)


def kernel_counts() -> bool:
    """Whether touching fresh pages shows in getrusage: sandboxes with a kernel of their own (gVisor) report 0 whatever happens."""
    import mmap
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with mmap.mmap(-1, 256 * mmap.PAGESIZE) as fresh:
        for page in range(256):
            fresh[page * mmap.PAGESIZE] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt > before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_steps_after_the_first_map_hardly_anything_anew():
    if not kernel_counts():
        pytest.skip("this kernel does not count page faults")
    kept, count = faults("keep")
    if kept == "False":
        pytest.skip("another allocator than glibc's")
    left = faults("leave")[1]
    if left < 2000:
        pytest.skip(f"hardly a page fault either way here ({count} and {left}): huge pages")
    assert count < left / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"  # somebody has chosen
