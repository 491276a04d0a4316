"""What each of two processes does in test_norm: its half of the batch forward and backward, and the results to a file."""

import torch
import torch.distributed as td
import torch.nn as nn
from safetensors.torch import save_file
from torch import Tensor

from selftaught import nets
from selftaught.core import View
from selftaught.nets.heads import MLP
from selftaught.nets.norm import BatchNorm1d, BatchNorm2d, synchronised

ROWS = 12


def nets_to_compare() -> dict[str, tuple[nn.Module, Tensor]]:
    """{name: (float64 network in training mode, input for the whole batch)}, the same in every process."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5)
    )
    cases = {
        "1d": (BatchNorm1d(5), torch.randn(ROWS, 5)),
        "1d sequence": (BatchNorm1d(5, momentum=None), torch.randn(ROWS, 5, 3)),
        "1d without scale": (BatchNorm1d(5, affine=False), 1e3 + torch.randn(ROWS, 5)),
        "2d": (BatchNorm2d(4, momentum=0.3), torch.randn(ROWS, 4, 3, 2)),
        "2d without statistics": (BatchNorm2d(4, track_running_stats=False), torch.randn(ROWS, 4, 3, 2)),
        "projector": (MLP((6, 8, 4), last=True), torch.randn(ROWS, 6)),
        "converted": (synchronised(plain), torch.randn(ROWS, 3, 4, 4)),
        "resnet": (nets.build("resnet", width=4, image_size=8), torch.rand(ROWS, 3, 8, 8)),
        "resnet-small": (
            nets.build("resnet-small", widths=(8, 8), blocks=(1, 1), strides=(1, 2), stem=4),
            torch.rand(ROWS, 3, 16, 16),
        ),
    }
    for net, _ in cases.values():
        for p in net.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    return {name: (net.double().train(), x.double()) for name, (net, x) in cases.items()}


def run(net: nn.Module, x: Tensor, total: int) -> dict[str, Tensor]:
    """Output, gradients and buffers after two steps of forward, with loss = sum x processes / rows of the whole batch."""
    world = td.get_world_size() if td.is_initialized() else 1
    x = x.clone().requires_grad_()
    given = View("image", parts={"pixels": x}) if hasattr(net, "modality") else x
    with torch.no_grad():
        net(given)
    y = net(given)
    weight = torch.linspace(-1, 1, y[0].numel(), dtype=y.dtype).view(y.shape[1:])
    loss = ((y * weight).square() + y.tanh()).sum() * world / total
    loss.backward()
    out = {"y": y.detach(), "x": x.grad / world}
    out |= {f"grad {n}": p.grad for n, p in net.named_parameters()}
    out |= {f"buffer {n}": b for n, b in net.named_buffers()}
    net.eval()
    with torch.no_grad():
        out["eval"] = net(given)
    return {k: v.contiguous() for k, v in out.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    td.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for name, (net, x) in nets_to_compare().items():
        out = run(net, x.chunk(2)[rank], ROWS)
        for key in out:
            if key.startswith("grad"):
                td.all_reduce(out[key])
                out[key] /= 2
        results |= {f"{name}/{key}": value for key, value in out.items()}
    save_file(results, f"{folder}/{rank}.safetensors")
    td.destroy_process_group()
