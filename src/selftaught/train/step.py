"""One optimiser step's forward and backward: whole, summed over micro-batches, or replayed where rows meet in the loss."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from ..core import Batch, Draw, Method, View, ViewSpec, dist, random
from ..core.errors import RequestError

Backward = Callable[[Tensor], None]


def make_batch(
    specs: list[ViewSpec], raws: dict[str, View], index: Tensor, *, seed: int, step: int, progress: float
) -> Batch:
    """The views of every spec, made on the device that `raws` is on; a row's view depends on (seed, step, view, row) alone."""
    views = []
    for number, spec in enumerate(specs):
        view = spec.transform(raws[spec.rows], Draw(index, seed, step, number, progress))
        views.append(replace(view, role=spec.role))
    return Batch(views, index, seed, step, progress)


def reseed(seed: int, step: int, micro: int, device: torch.device) -> None:
    """Dropout's generator, bound to (seed, step, micro-batch, rank): exact on resume, not across process counts."""
    value = random.key(seed, step, micro, dist.rank(), "dropout")
    torch.manual_seed(value) if device.type != "cpu" else torch.default_generator.manual_seed(value)


def check_accumulation(method: Method, micro: int) -> str:
    """ "whole", "sum" or "replay"; refuses what would change the result."""
    if micro <= 1:
        return "whole"
    norms = [name for name, m in method.named_modules() if getattr(m, "running_mean", None) is not None]
    if norms:
        raise RequestError(
            f"accumulate = {micro} would change the result: {norms[0]} (and {len(norms) - 1} more) takes batch statistics.",
            "Use accumulate = 1 with a smaller batch, or an encoder without batch normalisation (a ViT).",
        )
    if not method.couples_rows:
        return "sum"
    if type(method).embed is Method.embed:
        raise RequestError(
            f"accumulate = {micro}: rows meet in the loss of {type(method).__name__}, and it offers no exact replay.",
            "Use accumulate = 1 with a smaller batch.",
        )
    return "replay"


def split(batch: Batch, micro: int) -> list[Batch]:
    """`micro` contiguous parts of equal size."""
    if len(batch) % micro:
        raise RequestError(
            f"A batch of {len(batch)} rows cannot be cut into {micro} equal micro-batches.",
            "Choose accumulate to divide the batch.",
        )
    rows = torch.arange(len(batch), device=batch.index.device).chunk(micro)
    return [replace(batch, views=[v.take(r) for v in batch.views], index=batch.index[r]) for r in rows]


def whole(model, method: Method, batch: Batch, backward: Backward, micro: int = 1) -> dict[str, Tensor]:
    """Forward and backward of the batch at once."""
    reseed(batch.seed, batch.step, 0, batch.index.device)
    outputs = model(batch)
    backward(outputs["loss"])
    return outputs


def summed(model, method: Method, batch: Batch, backward: Backward, micro: int) -> dict[str, Tensor]:
    """Micro-batches one after the other: each loss is its local sum over the global count, so the sum is the whole loss."""
    parts = split(batch, micro)
    counts = [method.count(part) for part in parts]
    rows = torch.tensor(float(len(batch)), device=batch.index.device)
    total = dist.total(rows if counts[0] is None else torch.stack([c.float() for c in counts if c is not None]).sum(0))
    outputs: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
            reseed(batch.seed, batch.step, number, batch.index.device)
            part_outputs = model(replace(part, total=total))
            backward(part_outputs["loss"])
        outputs = _merge(outputs, part_outputs, len(parts), method.commits)
    return outputs


def replayed(model, method: Method, batch: Batch, backward: Backward, micro: int) -> dict[str, Tensor]:
    """Embed every micro-batch -> the loss of all rows -> replay each with its part of the gradient (Gao et al. 2021, GradCache).

    Runs past DDP, so gradients are averaged here by hand.
    """
    parts = split(batch, micro)
    embedded = []
    with torch.no_grad():
        for number, part in enumerate(parts):
            reseed(batch.seed, batch.step, number, batch.index.device)
            embedded.append(method.embed(part))
    joined = torch.cat(embedded).requires_grad_()  # type: ignore[arg-type]
    outputs = method.couple(joined)
    backward(outputs["loss"])
    assert joined.grad is not None
    for number, (part, grad) in enumerate(zip(parts, joined.grad.chunk(micro), strict=True)):
        reseed(batch.seed, batch.step, number, batch.index.device)
        again = method.embed(part)
        assert again is not None
        again.backward(grad)
    if dist.world() > 1:
        for p in method.parameters():
            if p.grad is not None:
                p.grad.copy_(dist.total(p.grad) / dist.world())
    return outputs


ROWS = ("features", "positives")
"""Outputs of a loss that hold a line for each row."""

STEPS = {"whole": whole, "sum": summed, "replay": replayed}


def _merge(
    outputs: dict[str, Tensor], part: dict[str, Tensor], parts: int, commits: frozenset[str]
) -> dict[str, Tensor]:
    """Losses and what is to be committed add up, features are joined, other scalars are averaged over micro-batches."""
    merged = dict(outputs)
    for name, value in part.items():
        value = value.detach()
        if name in ROWS:
            merged[name] = torch.cat([outputs[name], value]) if name in outputs else value
        else:
            merged[name] = outputs.get(name, torch.zeros_like(value)) + (
                value if name in {"loss", *commits} else value / parts
            )
    return merged
