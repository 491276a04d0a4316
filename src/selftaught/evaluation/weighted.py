"""The shares of a frozen encoder's stages, learned with a linear read-out (Yang et al. 2021, SUPERB; Peters et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn

from ..core import Draw, Facts, random
from ..core.listener import Listener
from ..nets.weighted import WeightedStages
from .protocol import Problem

STEPS, RATE = 300, 0.03
"""Of the full-batch Adam that fits shares and read-out together; the learned numbers behind the shares have a tenth of that rate."""
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties of the read-out's squares, of which validation rows choose one."""
ROWS = 5_000
"""Training rows that shares are learned from, at most."""


@torch.no_grad()
def stage_means(encoder: WeightedStages, data, rows: np.ndarray, *, batch: int = 256, device: str = "cpu") -> list[torch.Tensor]:  # fmt: skip
    """(len(rows), width) of every stage of clean views, in eval mode."""
    modality = data.modality
    plain = modality.plain(Facts(rows=len(data), modality=modality, batch=batch, device=torch.device(device).type))
    encoder.to(device).eval()
    found = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        view = plain(data.fetch(some).to(device), Draw(torch.from_numpy(data.ids[some]).to(device)))
        found.append([stage.float().cpu() for stage in encoder.means(view)])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def learn_shares(problem: Problem, encoder: WeightedStages, *, seed: int = 0, batch: int = 256, device: str = "cpu", listener: Listener | None = None) -> list[float]:  # fmt: skip
    """Sets the encoder's mixture to what serves a linear read-out of the training rows best, and gives the shares.

    Shares and read-out are fitted together from equal shares and a read-out of zeros, for each of DECAYS; the loss on validation rows chooses (on training rows,
    where there are no others).  The read-out is thrown away: whoever reads the mixture fits his own.
    """
    rows = problem.probe_train
    if len(rows) > ROWS:
        rows = np.sort(rows[random.permutation(random.key(seed, "shares"), len(rows)).numpy()[:ROWS]])
    held = problem.probe_validation if len(problem.probe_validation) else rows
    truth = problem.labels.values
    sides = []
    for some in (rows, held):
        means = stage_means(encoder, problem.pool, some, batch=batch, device=device)
        sides.append((means, torch.from_numpy(np.ascontiguousarray(truth[some]))))
    encoder.cpu()
    best, kept = np.inf, torch.zeros(len(encoder.widths))
    for number, decay in enumerate(DECAYS):
        found, loss = _fitted(problem, encoder, sides, decay)
        if listener is not None:
            listener.progress("weighing stages", number + 1, len(DECAYS))
        if loss < best:
            best, kept = loss, found
    with torch.no_grad():
        encoder.mixture.copy_(kept)
    return encoder.shares()


def _fitted(problem: Problem, encoder: WeightedStages, sides: list, decay: float) -> tuple[torch.Tensor, float]:
    """(numbers behind the shares, loss on the second side)."""
    (train, wanted), (held, known) = sides
    with torch.no_grad():
        encoder.mixture.zero_()
    head = nn.Linear(encoder.dim, problem.task.outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    groups = [{"params": list(head.parameters()), "lr": RATE}, {"params": [encoder.mixture], "lr": RATE / 10}]
    optimizer = torch.optim.Adam(groups)
    scale = torch.linspace(1, 0, STEPS + 1)
    for step in range(STEPS):
        for group, rate in zip(optimizer.param_groups, (RATE, RATE / 10)):
            group["lr"] = rate * float(scale[step])
        loss = problem.task.loss(head(encoder.mixed(train)), wanted) + decay * head.weight.square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return encoder.mixture.detach().clone(), float(problem.task.loss(head(encoder.mixed(held)), known))
