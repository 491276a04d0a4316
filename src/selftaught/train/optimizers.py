"""AdamW and SGD fused where torch offers it, and LARS."""

import torch
from torch import Tensor

from ..core import Method, Recipe
from ..core.errors import RequestError


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman & Ginsburg 2017, eq. 6), with momentum on the scaled update.

    Groups without weight decay (biases, normalisation) are not adapted, as SimCLR and BYOL do.
    """

    def __init__(self, params, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad
                if group["weight_decay"]:
                    update = self._adapted(p, update + group["weight_decay"] * p, group["trust"])
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].mul_(group["momentum"]).add_(update)
                p.sub_(group["lr"] * state["momentum"])

    @staticmethod
    def _adapted(p: Tensor, update: Tensor, trust: float) -> Tensor:
        ratio = trust * p.norm() / update.norm()
        return update * torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0)


def make(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of `recipe` over `method.param_groups()`; `lr_scale` of a group is kept for the schedule."""
    groups = [{"weight_decay": recipe.weight_decay, **g} for g in method.param_groups()]
    if not groups:
        raise ValueError("nothing to train: param_groups() is empty")
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for g in groups for p in g["params"])
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=fused)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
        )
    if recipe.optimizer == "lars":
        return LARS(groups, lr=recipe.lr, momentum=recipe.momentum)
    raise RequestError(f"{recipe.optimizer!r} is no optimiser.", "Accepted: adamw, sgd, lars.")


def load_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Restores a state_dict; every tensor gets the memory layout of its parameter, which fused kernels rely on."""
    optimizer.load_state_dict(state)
    for p, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                entry[name] = torch.empty_like(p).copy_(value)
