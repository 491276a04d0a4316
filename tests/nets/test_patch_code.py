"""Patch codes: the kernel, the plain definition and an independent float64 loop agree; saved, exported, untrained."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import nets
from selftaught.core import Kept, ModelError, View
from selftaught.nets import patch_kernel, store
from selftaught.nets.patch_code import FLAT, Scale

SMALL = {
    "size": (13, 12), "shrink": (1, 1), "pad": (0, 1), "patch": (4, 5), "stride": (1, 2), "grey": (False, True), "filters": (8, 16),
    "atoms": (64, 32), "width": (8, 5), "cells": (2, 3), "outputs": 7,
}  # fmt: skip


def built(seed: int = 0, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    return nets.build("patch-code", **{**SMALL, **options}).eval()


def pictures(rows: int, channels: int = 3, size: tuple[int, int] = (13, 12), seed: int = 0) -> View:
    """Smooth random pictures with a flat stretch: (rows, channels, *size) uint8."""
    make = torch.Generator().manual_seed(seed)
    rough = torch.rand(rows, channels, 5, 5, generator=make)
    pixels = (torch.nn.functional.interpolate(rough, size=size, mode="bilinear") * 255).round().to(torch.uint8)
    pixels[0, :, : size[0] // 2] = 77
    return View("image", parts={"pixels": pixels})


def by_definition(scale: Scale, pixels: torch.Tensor) -> torch.Tensor:
    return scale.define(scale.look(pixels))


def loop(scale: Scale, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """(B, cells^2, width) by loops in float64, and how near the nearest cosine came to the threshold."""
    x = pixels.astype(np.float64)
    x = x.mean(1, keepdims=True) if scale.grey else x
    q, p = scale.shrink, scale.patch
    filters, atoms, embedding = (t.double().numpy() for t in (scale.filters, scale.atoms, scale.embedding))
    threshold, near, out = float(scale.threshold), 1.0, []
    for image in x:
        c, h, w = image.shape
        image = image[:, : h // q * q, : w // q * q].reshape(c, h // q, q, w // q, q).mean((2, 4))
        image = np.pad(image, ((0, 0), (scale.pad,) * 2, (scale.pad,) * 2))
        tall, wide = ((s - p) // scale.stride + 1 for s in image.shape[1:])
        cells = np.zeros((scale.cells**2, embedding.shape[1]))
        for i in range(tall):
            for j in range(wide):
                y, z = i * scale.stride, j * scale.stride
                white = filters @ image[:, y : y + p, z : z + p].ravel()
                if white @ white <= FLAT:
                    continue
                cosines = atoms @ white / np.linalg.norm(white)
                near = min(near, np.abs(cosines - threshold).min())
                active = cosines >= threshold if (cosines >= threshold).any() else cosines == cosines.max()
                total = embedding[active].sum(0)
                place = (i * scale.cells // tall) * scale.cells + j * scale.cells // wide
                cells[place] += total / max(np.linalg.norm(total), 1e-9)
        norm = np.linalg.norm(cells, axis=1, keepdims=True)
        out.append(np.where(norm > 1e-8, cells / np.maximum(norm, 1e-8), 0))
    return np.stack(out), near


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("shape", [{"shrink": 1, "pad": 0, "stride": 1}, {"shrink": 2, "pad": 2, "stride": 2}], ids=str)
@pytest.mark.parametrize("grey", [False, True])
def test_kernel_definition_and_loop_agree(channels, shape, grey):
    torch.manual_seed(channels)
    scale = Scale((13, 12), channels, patch=4, grey=grey, filters=8, atoms=64, width=6, cells=2, **shape)
    pixels = pictures(5, channels)["pixels"]
    expected, near = loop(scale, pixels.numpy())
    assert near > 1e-6  # no code stands so near the threshold that rounding could turn it
    np.testing.assert_allclose(scale(pixels), expected, atol=2e-5)
    np.testing.assert_allclose(by_definition(scale, pixels), expected, atol=2e-5)
    np.testing.assert_allclose(scale.double()(pixels), expected, atol=1e-6)


def test_where_no_atom_reaches_the_threshold_the_best_one_speaks():
    torch.manual_seed(0)
    scale = Scale((6, 6), 1, shrink=1, pad=0, patch=6, stride=1, grey=False, filters=8, atoms=32, width=4, cells=1)
    scale.threshold.fill_(0.999)
    pixels = pictures(4, 1, (6, 6))["pixels"][1:]
    white = pixels.flatten(1).float() @ scale.filters.T
    best = (white @ scale.atoms.T).argmax(1)
    rows = torch.nn.functional.normalize(scale.embedding[best].float(), dim=1)
    for found in (scale(pixels), by_definition(scale, pixels)):
        torch.testing.assert_close(found[:, 0], rows, atol=1e-6, rtol=0)


def test_flat_pictures_have_no_code():
    encoder = built(outputs=0)
    flat = View("image", parts={"pixels": torch.full((2, 3, 13, 12), 200, dtype=torch.uint8)})
    padded = encoder.scales[1](flat["pixels"])  # a border makes edges, which are seen
    assert not encoder.scales[0](flat["pixels"]).any()
    assert padded[:, 0].norm(dim=1).allclose(torch.ones(2))
    assert encoder(flat).isfinite().all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 10**6), st.floats(0.0, 0.6))
def test_listed_codes_and_pairs_are_those_of_a_dense_product(rows, filters, seed, threshold):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (1, 1, 4, rows + 3)).astype(np.float32)
    images[0, 0, :, : rows // 3] = 9
    bank = patch_kernel.Bank(
        draw.standard_normal((16, filters)).astype(np.float32), draw.standard_normal((filters, 96)).astype(np.float32),
        np.float32(threshold), 4, 1,
    )  # fmt: skip
    bank.atoms[:] /= np.linalg.norm(bank.atoms, axis=0)
    z = patch_kernel.patches(images[0], 4, 1) @ bank.filters
    patch_kernel.unit_rows(z, FLAT)
    cosines = z @ bank.atoms
    dense = cosines >= np.float32(threshold)
    alone = ~dense.any(1) & (cosines.max(1) > 0)
    dense[alone, cosines[alone].argmax(1)] = True
    counts, (listed,) = patch_kernel.codes(images, bank)
    assert (counts[0] == dense.sum(1)).all()
    assert (listed == np.nonzero(dense)[1]).all()
    pairs = np.zeros((96, 96), np.int32)
    patch_kernel.add_pairs(counts[0], listed, pairs)
    codes = dense.astype(np.int64)
    assert (pairs == np.triu(codes.T @ codes)).all()


def test_sums_of_hundreds_of_extreme_rows_do_not_overflow():
    torch.manual_seed(0)
    scale = Scale((4, 4), 1, shrink=1, pad=0, patch=4, stride=1, grey=False, filters=4, atoms=1024, width=3, cells=1)
    scale.threshold.fill_(-2.0)
    scale.embedding[:, 0], scale.embedding[:, 1], scale.embedding[:, 2] = 127, -127, 0
    scale.embedding[0, 2] = 127
    pixels = pictures(2, 1, (4, 4), seed=3)["pixels"][1:]
    exact = torch.tensor([1024.0, -1024.0, 1.0]) / math.sqrt(2 * 1024**2 + 1)
    torch.testing.assert_close(scale(pixels)[0, 0], exact, atol=1e-6, rtol=0)


def test_uint8_and_float_pixels_are_the_same_bits():
    view, encoder = pictures(6), built()
    assert torch.equal(encoder(view), encoder(view.with_parts(pixels=view["pixels"] / 255)))


def test_threads_and_batches_change_nothing(monkeypatch):
    view, encoder = pictures(23), built()
    whole = encoder.cells_of(view["pixels"])
    for threads in (2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(encoder.cells_of(view["pixels"]), whole)
        alone = torch.cat([encoder.cells_of(view["pixels"][i : i + 1]) for i in range(23)])
        assert torch.equal(alone, whole)
    torch.testing.assert_close(
        torch.cat([encoder(view.take(torch.arange(i, i + 1))) for i in range(23)]), encoder(view), atol=1e-6, rtol=0
    )


def test_errors_in_threads_come_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    done = []

    def work(start: int, stop: int) -> None:
        done.append((start, stop))
        if start == 0:
            raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        patch_kernel.on_all_cores(work, 10)
    assert sorted(i for a, b in done for i in range(a, b)) == list(range(10))


def test_stages_are_the_cells_with_their_grids():
    view, encoder = pictures(4), built(outputs=0)
    first, second = encoder.features(view)
    assert (first.grid, second.grid, first.values.shape, second.values.shape) == ((2, 2), (3, 3), (4, 4, 8), (4, 9, 5))
    joined = torch.cat([first.values.flatten(1) / 2, second.values.flatten(1) / 3], 1) / math.sqrt(2)
    torch.testing.assert_close(encoder(view), joined)
    assert encoder.can == {"stages"}
    assert encoder.dim == joined.shape[1] == 4 * 8 + 9 * 5


def test_landmarks_are_weighed_by_their_cosine():
    encoder = built(landmarks=20, coordinates=3, sharpness=10.0)
    view = pictures(6)
    found, unit = encoder(view), built(landmarks=0)(view)
    weights = torch.exp(10 * unit.double() @ encoder.places.double().T)
    torch.testing.assert_close(
        found.double(), weights / weights.sum(1, keepdim=True) @ encoder.charts.double(), atol=1e-5, rtol=0
    )
    assert encoder.dim == 3


@pytest.mark.parametrize("landmarks", [0, 20])
def test_a_saved_encoder_gives_the_same_bits(tmp_path, landmarks):
    encoder, view = built(3, landmarks=landmarks), pictures(6)
    store.save(tmp_path / "kept", Kept(encoder))
    again = store.load_encoder(tmp_path / "kept")
    assert again.config() == encoder.config()
    assert torch.equal(again(view), encoder(view))
    assert again.scales[0].embedding.dtype == torch.int8


def test_untrained_encoders_come_from_the_seed_alone_and_tell_pictures_apart():
    view = pictures(12)
    first, same, other = built(0)(view), built(0)(view), built(1)(view)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.linalg.matrix_rank(first - first.mean(0)) >= 6
    assert not any(True for _ in built().parameters())


@pytest.mark.parametrize(
    "options",
    [{"atoms": (60, 32)}, {"patch": (20, 5)}, {"cells": (2,)}, {"outputs": 1000}, {"stride": (0, 1)}, {"pad": (-1, 0)}],
    ids=str,
)  # fmt: skip
def test_options_that_describe_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"must|need|fit|exist"):
        built(**options)
    with pytest.raises(ModelError):
        nets.rebuild({"kind": "patch-code", "options": {**SMALL, **options}})


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 9, 9\)"):
        built()(pictures(2, size=(9, 9)))


class OfPixels(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels):
        return self.encoder(View("image", parts={"pixels": pixels}))


@pytest.mark.slow
def test_it_exports_to_one_graph_with_any_batch(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder, view = built(landmarks=20, shrink=(1, 2)), pictures(7)
    pixels = view["pixels"] / 255
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch's exporter warns of torch itself
        program = torch.onnx.export(
            OfPixels(encoder).eval(), (pixels[:2],), dynamo=True, input_names=["pixels"], verbose=False,
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    program.save(tmp_path / "model.onnx")
    (found,) = runtime.InferenceSession(tmp_path / "model.onnx").run(None, {"pixels": pixels.numpy()})
    np.testing.assert_allclose(found, encoder(view), atol=2e-5)
