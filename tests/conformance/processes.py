"""What each of two gloo processes does for test_two_processes.py: every method on its half of the batch, and the collectives."""

import warnings
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as td
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from selftaught.core import Batch, Method, RequestError, dist
from selftaught.nets.norm import BatchNorm1d
from selftaught.train.step import STEPS, check_accumulation

from .cases import ROWS, Case, cases


def distributed() -> list[Case]:
    """All cases, and options under which more could go wrong between processes."""
    more = [("swav", "image", "resting", 0.9), ("swav", "image", "queue", ROWS), ("simclr", "image", "copies", 3)]
    more += [("bigan", "image", "representation", "discriminator"), ("inpainting", "image", "adversarial", 0.1)]
    more += [
        ("simclr-v2", "image", "memory", 12),
        ("ibot", "image", "centring", "sinkhorn"),
        ("ibot", "image", "koleo", 0.1),
    ]
    more += [("ibot", "text", "shared", False), ("distil", "series", "error", "smooth")]
    more += [(method, modality, "norm", "layer") for method in ("simclr", "byol") for modality in ("text", "series")]
    convolved = [Case(method, "sound", network=(("stem", "conv"),)) for method in ("simmim", "best-rq", "data2vec")]
    return [
        *cases(),
        *convolved,
        *(Case(method, modality, ((option, value),)) for method, modality, option, value in more),
    ]


def accumulates(case: Case) -> bool:
    """Whether the loop may cut this method's step into micro-batches."""
    try:
        return check_accumulation(case.make()[0], 2) != "whole"
    except RequestError:
        return False


def half(batch: Batch, rank: int, world: int) -> Batch:
    """The rank's contiguous slice of a batch."""
    rows = torch.arange(len(batch)).chunk(world)[rank]
    return replace(batch, views=[v.take(rows) for v in batch.views], index=batch.index[rows])


def tensors(loss: torch.Tensor, method: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The loss, every gradient and every statistic, by name."""
    found = {"loss": loss.detach().clone().reshape(1)}
    found |= {f"grad.{n}": p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    return found | {f"buffer.{n}": b.clone().contiguous() for n, b in method.named_buffers() if b.is_floating_point()}


def baseline(outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a blind guess loses: that of all rows, on every rank."""
    return {"baseline": outputs["baseline"].reshape(1)} if "baseline" in outputs else {}


def twice(model: torch.nn.Module, method: Method, batch: Batch) -> dict[str, torch.Tensor]:
    """Forward and backward, what the step commits, and both again: the second raises where the first left a parameter without gradient."""
    method.zero_grad()
    outputs = model(batch)
    outputs["loss"].backward()
    method.after_step(batch.progress, {k: v.detach() for k, v in outputs.items()})
    method.zero_grad()
    outputs = model(batch)
    outputs["loss"].backward()
    return outputs


def one_step(case: Case, rank: int, world: int) -> dict[str, torch.Tensor]:
    method, batch = case.make()
    model = DistributedDataParallel(method, broadcast_buffers=False)
    outputs = twice(model, method, half(batch, rank, world))
    return tensors(dist.total(outputs["loss"]) / world, method) | baseline(outputs)


def accumulated(case: Case, rank: int, world: int) -> dict[str, torch.Tensor]:
    """The same step in two micro-batches a process, by the loop's own way for this method."""
    method, batch = case.make()
    model = DistributedDataParallel(method, broadcast_buffers=False)
    way = STEPS[check_accumulation(method, 2)]
    outputs = way(model, method, half(batch, rank, world), lambda loss: loss.backward(), 2)
    return tensors(dist.total(outputs["loss"]) / world, method)


def collectives(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Each collective with the sum of all ranks' losses as the objective, so that gradients can be compared with one process."""
    whole = torch.arange(12.0, dtype=torch.float64).view(6, 2) / 7
    weight = (torch.arange(6.0, dtype=torch.float64) + 1)[:, None]
    mine = whole.chunk(world)[rank].clone().requires_grad_()
    found = {}
    # every rank's loss reads all rows, weighted by its own rank: the adjoint must add both up
    ((rank + 1) * weight * dist.gather_rows(mine) ** 2).sum().backward()
    found["gather"] = mine.grad.clone()
    mine.grad = None
    ((rank + 1) * dist.sum_all(mine.sum(0)) ** 2).sum().backward()
    found["sum"] = mine.grad.clone()
    found["total"] = dist.total(mine.detach().sum(0))
    found["gathered"] = dist.gather_rows(mine.detach())
    found["word"] = torch.tensor([float(dist.broadcast_object({"steps": 7 + rank})["steps"])])
    norm = BatchNorm1d(2).double()
    norm(mine.detach())
    found["mean"] = norm.running_mean.clone()
    dist.barrier()
    return {k: v.contiguous() for k, v in found.items()}


def run(rank: int, world: int, folder: str) -> None:
    """One process: writes what it found to folder/RANK.NAME.safetensors."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # its successor is younger than torch 2.8
    torch.set_num_threads(1)
    home = Path(folder)
    td.init_process_group("gloo", init_method=f"file://{home}/store", rank=rank, world_size=world)
    try:
        save_file(collectives(rank, world), home / f"{rank}.collectives.safetensors")
        for case in distributed():
            save_file(one_step(case, rank, world), home / f"{rank}.{case.name}.safetensors")
            if accumulates(case):
                save_file(accumulated(case, rank, world), home / f"{rank}.accumulated {case.name}.safetensors")
    finally:
        td.destroy_process_group()
