"""Export to ONNX: one graph from raw input to representation, compared with the original in onnxruntime."""

from __future__ import annotations

import json
import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from .. import __version__
from ..core import Encoder, Kept, ModelError, RequestError, View, module
from .sample import INPUTS, Graph, context, sample

OUTPUT = "features"
BATCHES = (1, 2, 5, 16)
"""Batch sizes at which graph and original are compared."""
TOLERANCE = 1e-4
LOOSE = {"patch-code": 0.1}
"""{kind: share of rows that may lie beyond the tolerance}: its codes are thresholds, which rounding flips now and then."""


def to_onnx(
    kept: Kept | Encoder,
    file: str | Path,
    *,
    modality=None,
    pixels: Literal["float", "uint8"] = "float",
    opset: int = 20,
) -> dict:
    """Writes the encoder as one ONNX graph with a dynamic batch (and length, for text and series); returns what was measured.

    Inputs, by the encoder's modality: image "pixels" (batch, C, H, W), float32 in 0-1 or uint8 in 0-255 as `pixels` says (the
    normalisation is inside); text "ids" (batch, length) int64 and "valid" bool; series "values" (batch, C, length) float32 with NaN
    where missing and "valid" (batch, length) bool.  Output "features" (batch, dim) float32.  `modality` gives size and
    length where the encoder's own options do not.

    The result {"difference": largest absolute difference, "scale": largest absolute value, "batches", "beyond": share of
    rows beyond 1e-4 of the scale, "inputs": {name: type and shape}} is also in the graph's metadata.  Raises RequestError where the export extra is missing,
    ModelError where the graph cannot be written or gives other numbers (the file is then not kept).
    """
    encoder = kept.encoder if isinstance(kept, Kept) else kept
    _require()
    integers, was = pixels == "uint8", encoder.training
    # half the longest: at its full length the exporter would take that length for the only one
    example = sample(encoder, 3, modality=modality, integers=integers, share=0.5)
    names = INPUTS[encoder.modality]
    graph = Graph(encoder).eval()
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.parent / f".{secrets.token_hex(4)}.{file.name}"
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph, tuple(example[n] for n in names), dynamo=True, dynamic_shapes=(_dynamic(encoder, modality),),
                input_names=list(names), output_names=[OUTPUT], opset_version=opset, verbose=False,
            )  # fmt: skip
        assert program is not None
        program.save(str(new))
        measured = compare(encoder, new, modality=modality, integers=integers)
        _judge(encoder, measured)
        measured["inputs"] = _inputs(example, _dynamic(encoder, modality), pixels)
        _describe(program, encoder, measured, pixels)
        program.save(str(new))
        os.replace(new, file)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            f"The encoder {encoder.kind!r} cannot be written as an ONNX graph: {str(error)[-300:]}",
            "Export it to transformers, torchvision or timm instead.",
        ) from error
    finally:
        new.unlink(missing_ok=True)
        encoder.train(was)
    return measured


def compare(encoder: Encoder, file: str | Path, *, modality=None, integers: bool = False) -> dict:
    """How far the graph in `file`, run by onnxruntime, is from the encoder: at several batch sizes and lengths."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences, scale = [], 0.0
    for seed, rows in enumerate(BATCHES):
        share = 1.0 if seed % 2 else 0.75
        view = sample(encoder, rows, seed=seed + 1, modality=modality, integers=integers, share=share)
        with torch.no_grad():
            wanted = encoder.eval()(view).float()
        given = {i.name: view[i.name].numpy() for i in session.get_inputs()}
        got = torch.from_numpy(session.run([OUTPUT], given)[0])
        if got.shape != wanted.shape:
            raise ModelError(f"The graph gives {tuple(got.shape)} where the encoder gives {tuple(wanted.shape)}.")
        differences.append((got - wanted).abs().amax(1))
        scale = max(scale, wanted.abs().max().item())
    every = torch.cat(differences)
    beyond = (every > TOLERANCE * max(scale, 1e-3)).float().mean().item()
    return {"difference": every.max().item(), "scale": scale, "batches": list(BATCHES), "beyond": beyond}


def _judge(encoder: Encoder, measured: dict) -> None:
    if measured["beyond"] > LOOSE.get(encoder.kind, 0.0) or measured["difference"] != measured["difference"]:
        raise ModelError(
            f"The ONNX graph differs from the encoder by {measured['difference']:.1e} (values reach {measured['scale']:.1e}).",
            "It was not kept.  Another release of torch or onnxruntime may write it faithfully.",
        )


def _dynamic(encoder: Encoder, modality) -> tuple[dict, ...]:
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    if encoder.modality == "image":
        return ({0: batch},)
    if encoder.modality == "sound":
        return ({0: batch, 1: torch.export.Dim("length", min=8, max=1 << 24)}, {0: batch})
    longest = context(encoder, modality) if encoder.modality == "text" else 1 << 16
    length = torch.export.Dim("length", min=1 if encoder.modality == "text" else 8, max=longest)
    return ({0: batch, 1: length} if encoder.modality == "text" else {0: batch, 2: length}, {0: batch, 1: length})


def _inputs(example: View, dynamic: tuple[dict, ...], pixels: str) -> dict[str, str]:
    """{name: type and shape in words}."""
    out = {}
    for name, axes in zip(INPUTS[example.modality], dynamic, strict=True):
        shape = [axes[i].__name__ if i in axes else str(n) for i, n in enumerate(example[name].shape)]
        out[name] = f"{str(example[name].dtype).removeprefix('torch.')} ({', '.join(shape)})"
    if "pixels" in out:
        out["pixels"] += ", 0-1" if pixels == "float" else ", 0-255"
    return out


def _describe(program, encoder: Encoder, measured: dict, pixels: str) -> None:
    options = module.options(encoder)
    facts = {
        "selftaught": __version__,
        "encoder": encoder.kind,
        "modality": encoder.modality,
        "inside": json.dumps({k: options[k] for k in ("mean", "std") if k in options}),
        "parity": json.dumps(measured),
    }
    if encoder.modality == "image":
        facts["pixels"] = "float32 in 0-1" if pixels == "float" else "uint8 in 0-255"
    program.model.metadata_props.update(facts)
    program.model.doc_string = f"selftaught encoder {encoder.kind!r}: {', '.join(INPUTS[encoder.modality])} -> {OUTPUT}"


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RequestError(
            f"{error.name} is not installed.", "Install it with: pip install 'selftaught[export]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on libraries that are not there and on names of axes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
