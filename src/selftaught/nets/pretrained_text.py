"""A language model of transformers from a folder that nobody vouches for, its table of tokens in this project's order of ids."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import ModelError, RequestError
from . import files, vocabulary
from .architecture import network_config, plan, settings_of
from .borrowed import with_weights
from .borrowed_text import BorrowedText

MARK_IDS = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "mask_token_id": 3,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
POOLING = "1_Pooling/config.json"
"""Where sentence-transformers writes how a text's tokens become one vector."""


def load(
    folder: Path, root: Path | None, config: dict, *, weights: bool, pooling: str, unsafe: list[str]
) -> BorrowedText:
    """The encoder of a folder in transformers' format that holds config.json, model.safetensors and tokenizer.json.

    Rows of the table are put in the order of `vocabulary.adopt`; marks that the model does not have get the mean of all rows; rows that its
    tokenizer never uses are left out.  `weights=False` takes the architecture alone.
    """
    order = vocabulary.native(folder)
    native = settings_of(config)
    wanted = network_config(native)
    if max(order) >= wanted.vocab_size:
        raise ModelError(
            f"tokenizer.json in {str(folder)!r} has the id {max(order)}; the model has rows for {wanted.vocab_size} ids.",
            "They do not belong together: save model and tokenizer again.",
        )
    shift = _shift(wanted)
    changed: dict[str, Any] = {**json.loads(native), "vocab_size": len(order)}
    changed |= {k: v for k, v in MARK_IDS.items() if hasattr(wanted, k)}
    if shift:
        changed["max_position_embeddings"] = wanted.max_position_embeddings - shift
    options: dict[str, Any] = {"architecture": settings_of(changed), "specials": vocabulary.specials(folder)}
    options["pooling"] = _pooling(folder, root, wanted) if pooling == "auto" else pooling
    with torch.random.fork_rng(devices=[]):
        encoder = BorrowedText(**options)
        if weights:
            from .pretrained import tensors_of

            theirs, _ = with_weights(native, tensors_of(folder, root, unsafe, plan(native)))
            encoder.model.load_state_dict(_renumbered(theirs, encoder.model, order, shift))
    return encoder.eval()


def _shift(config) -> int:
    """By how many rows RoBERTa's table of positions begins later than that of a model whose padding is 0."""
    counted = config.model_type in ("camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl")
    return int(config.pad_token_id) if counted and config.pad_token_id else 0


def _renumbered(theirs: Any, ours: Any, order: list[int], shift: int) -> dict[str, Tensor]:
    """The state of `theirs` with rows of its tables as `ours` numbers them."""
    state, table = theirs.state_dict(), theirs.get_input_embeddings().weight
    rows = torch.tensor(order)
    shown = table.detach()[rows.clamp_min(0)]
    shown[rows < 0] = table.detach().mean(0)
    for name, value in list(state.items()):
        if value.shape == table.shape and torch.equal(value, table):
            state[name] = shown
        elif shift and name.endswith("position_embeddings.weight"):
            state[name] = value[shift:]
        elif name.endswith(("position_ids", "token_type_ids")):
            state[name] = ours.state_dict()[name]
    return state


def _pooling(folder: Path, root: Path | None, config) -> str:
    """What sentence-transformers' file says; the last token of a model that reads from left to right has seen most, else the mean."""
    if os.path.lexists(folder / POOLING):
        said = files.read_json(folder, POOLING, root=root)
        modes = {
            "pooling_mode_mean_tokens": "mean",
            "pooling_mode_cls_token": "class",
            "pooling_mode_lasttoken": "last",
        }
        chosen = [ours for theirs, ours in modes.items() if said.get(theirs) is True]
        if len(chosen) != 1:
            raise RequestError(
                f"{POOLING!r} in {str(folder)!r} asks for a pooling that is not known here.",
                "Give encoder_options.pooling.",
            )
        return chosen[0]
    return "mean"
