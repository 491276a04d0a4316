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
    groups = [{"weight_decay": recipe.weight_decay, **g} for g in _by_layer(method, recipe)]
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


def _by_layer(method: Method, recipe: Recipe) -> list[dict]:
    """The method's groups, those with parameters of the encoder divided by layer: `lr_scale` x encoder_rate x layer_decay^(above it)."""
    groups = method.param_groups()
    if recipe.encoder_rate == recipe.layer_decay == 1:
        return groups
    layers = method.encoder.layers()
    above = {id(p): len(layers) - 1 - i for i, layer in enumerate(layers) for p in layer}
    first = {
        id(p): len(layers) - 1 for p in method.encoder.parameters()
    } | above  # what no layer names learns as the first
    divided: list[dict] = []
    for group in groups:
        places: dict[int | None, list[Tensor]] = {}
        for p in group["params"]:
            places.setdefault(first.get(id(p)), []).append(p)
        for place, some in sorted(places.items(), key=lambda pair: -1 if pair[0] is None else pair[0]):
            scale = 1.0 if place is None else recipe.encoder_rate * recipe.layer_decay**place
            divided.append({**group, "params": some, "lr_scale": group.get("lr_scale", 1.0) * scale})
    return divided


def load_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Restores a state_dict; every tensor gets the memory layout of its parameter, which fused kernels rely on."""
    optimizer.load_state_dict(state)
    for p, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                entry[name] = torch.empty_like(p).copy_(value)
