"""Embedding a dataset in memory: eval mode, clean views, one pass; and the raw input as features, for the control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from ..core import DataError, Draw, Encoder, Facts, RequestError, clean
from ..core.batch import View
from ..core.listener import Listener

Layer = int | Literal["last"]


def embed(
    encoder: Encoder, dataset, *, batch: int = 256, device: str | torch.device = "cpu", layer: Layer | None = None,
    dtype: str = "float32", rows: np.ndarray | None = None, listener: Listener | None = None,
) -> np.ndarray:  # fmt: skip
    """(N, D) representations of the rows of `dataset` in order: eval mode, clean views, fp32 inside.

    `layer`: None or "last" is what `encoder(view)` gives; k is stage k of `encoder.features(view)`, averaged over its valid
    tokens.  `rows`: places of `dataset` (default: all).  The encoder is left as it was, normalisation statistics included.
    Cost: one forward pass a row.  Raises RequestError for a layer that the encoder has not.
    """
    return _sweep(encoder, dataset, [layer], batch, device, dtype, rows, listener)[0]


def embed_layers(encoder: Encoder, dataset, *, batch: int = 256, device: str | torch.device = "cpu",
                 dtype: str = "float32", rows: np.ndarray | None = None, listener: Listener | None = None) -> list[np.ndarray]:  # fmt: skip
    """One (N, D_k) a stage of `encoder.features`, each averaged over its valid tokens: one pass for all of them."""
    return _sweep(encoder, dataset, "all", batch, device, dtype, rows, listener)


def raw(dataset, *, batch: int = 1024, rows: np.ndarray | None = None) -> np.ndarray:
    """(N, D) float32: the raw-input control, of the same clean views that an encoder is given."""
    view_of, modality = _views(dataset, batch, "cpu"), dataset.modality
    return _gather(dataset, lambda places: [modality.raw(view_of(places))], batch, "float32", rows, Listener())[0]


def _views(dataset, batch: int, device):
    """place -> clean view on the device."""
    modality = dataset.modality
    facts = Facts(rows=len(dataset), modality=modality, batch=batch, device=torch.device(device).type)
    plain = modality.plain(facts)
    return lambda places: plain(
        dataset.fetch(places).to(device), Draw(torch.from_numpy(dataset.ids[places]).to(device))
    )


def _stages(encoder: Encoder, view: View) -> list[torch.Tensor]:
    with torch.no_grad():
        return [stage.mean().float() for stage in encoder.features(view)]


def _sweep(
    encoder, dataset, layers: Sequence[Layer | None] | Literal["all"], batch: int, device, dtype: str, rows, listener
) -> list[np.ndarray]:
    view_of = _views(dataset, batch, device)
    check = getattr(dataset.modality, "check", None)
    if check is not None:
        check(encoder)
    was = encoder.training
    encoder.to(device).eval()
    try:
        return _gather(dataset, lambda places: _outputs(encoder, view_of(places), layers), batch, dtype, rows, listener or Listener())  # fmt: skip
    finally:
        encoder.train(was)


def _gather(dataset, outputs: Callable, batch: int, dtype: str, rows, listener: Listener) -> list[np.ndarray]:
    """What `outputs(places)` gives, a list of (B, D_k), for all rows: a list of (N, D_k)."""
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    if not len(rows):
        raise DataError("There are no rows to embed.", "Give data of at least one row.")
    out: list[np.ndarray] = []
    for start in range(0, len(rows), batch):
        for k, values in enumerate(outputs(rows[start : start + batch])):
            if start == 0:
                out.append(np.empty((len(rows), values.shape[1]), dtype=dtype))
            out[k][start : start + batch] = values.cpu().numpy()
        listener.progress("embedding", min(start + batch, len(rows)), len(rows))
    return out


def _outputs(encoder: Encoder, view: View, layers: Sequence[Layer | None] | Literal["all"]) -> list[torch.Tensor]:
    if layers != "all" and all(layer in (None, "last") for layer in layers):
        return [clean(encoder, view)] * len(layers)
    stages = _stages(encoder, view)
    if layers == "all":
        return stages
    chosen = []
    for layer in layers:
        if not isinstance(layer, int) or not -len(stages) <= layer < len(stages):
            raise RequestError(
                f"Layer {layer!r} does not exist.", f"This encoder has 0 to {len(stages) - 1}, or say 'last'."
            )
        chosen.append(stages[layer])
    return chosen
