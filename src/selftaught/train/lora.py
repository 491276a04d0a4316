"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) through peft: put into an encoder, trained, folded back into its weights."""

from __future__ import annotations

import warnings

import torch.nn as nn

from ..core import Encoder
from ..core.errors import RequestError

RANK = 8


def inject(encoder: Encoder, *, rank: int = RANK) -> list[nn.Parameter]:
    """Puts adapters beside every linear layer (convolutions where there is none) and freezes the rest; returns what trains.

    The adapters begin at zero: the encoder's outputs are unchanged.  Their scale is alpha / rank = 2.
    Raises RequestError where peft is not installed, or where there is nothing to adapt.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise RequestError("--lora needs peft, which is not installed.", "pip install 'selftaught[lora]'") from None
    targets = _targets(encoder)
    if not targets:
        raise RequestError(f"{encoder.kind} has no layer that LoRA can adapt.", "Finetune it whole, without --lora.")
    with warnings.catch_warnings():
        # peft warns of targets whose weights are tied elsewhere; `merge` works on the one tensor, so nothing comes apart.
        warnings.simplefilter("ignore", UserWarning)
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, lora_dropout=0.0), encoder
        )
    return [p for p in encoder.parameters() if p.requires_grad]


def _targets(encoder: Encoder) -> list[str]:
    linear = [name for name, m in encoder.named_modules() if type(m) is nn.Linear]
    convolutions = [name for name, m in encoder.named_modules() if type(m) is nn.Conv2d and m.groups == 1]
    return linear or convolutions


def merge(encoder: Encoder) -> Encoder:
    """Adds the adapters to the weights and takes them out: the same network as before `inject`, with other weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in [(n, m) for n, m in encoder.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(encoder.get_submodule(parent), last, layer.get_base_layer())
    for p in encoder.parameters():
        p.requires_grad_(True)
    return encoder
