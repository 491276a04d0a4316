"""data2vec and I-JEPA: predictions of a teacher's tokens, against loops; what the student may see; the teacher's part."""

import numpy as np
import pytest
import torch

from selftaught.core import RequestError
from selftaught.methods.data2vec import Data2Vec
from selftaught.methods.i_jepa import IJEPA

from .small import Pictures, Texts, batch_of, gradients, made, pictures, texts, tokens, words


def normal(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def smooth(x, y, beta):
    off = np.abs(x - y)
    return np.where(off < beta, off**2 / (2 * beta), off - beta / 2).mean()


def shaken(teacher):
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))
    return teacher


@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_data2vec_is_the_smooth_error_against_the_upper_half_of_the_teachers_layers(kind):
    modality = Pictures() if kind == "pictures" else Texts()
    method = made(Data2Vec(ratio=0.5, beta=0.7), tokens(depth=3) if kind == "pictures" else words(depth=3), modality)
    view = pictures() if kind == "pictures" else texts()
    shaken(method.teacher)
    batch = batch_of(method, view, modality)
    chosen, grid = method._chosen(batch)
    with torch.no_grad():
        stages = method.teacher.net.features(view)
        read = method.encoder.trunk(method.encoder.tokenize(modality.corrupt(view, chosen, grid, batch.draw())))
        predicted = method.head(read.patches).numpy()
    off = []
    for b, n in chosen.nonzero().tolist():
        wanted = normal(np.mean([normal(s.patches[b, n].numpy()) for s in stages[1:]], 0))
        off.append(smooth(predicted[b, n], wanted, 0.7))
    out = method(batch)
    assert len(off) == int(method.count(batch))
    assert out["loss"].item() == pytest.approx(np.mean(off), abs=1e-9)


def test_data2vec_masks_this_share_in_blocks_and_marks_never():
    method = made(Data2Vec(ratio=0.5), tokens())
    chosen, _ = method._chosen(batch_of(method, pictures()))
    assert (chosen.sum(1) == 8).all()
    neighbours = (chosen.view(-1, 4, 4)[:, :, 1:] & chosen.view(-1, 4, 4)[:, :, :-1]).sum((1, 2)).double().mean()
    assert neighbours > 8 * 7 / (16 * 15) * 12, "more neighbours are masked together than single tokens would be"
    method = made(Data2Vec(ratio=0.5), words(), Texts())
    view = texts()
    chosen, _ = method._chosen(batch_of(method, view, Texts()))
    assert not (chosen & ~view["valid"]).any()


def test_i_jepa_is_the_smooth_error_at_the_targets_from_the_context_alone():
    method = made(IJEPA(decoder_width=16, decoder_depth=1, decoder_heads=2), tokens())
    shaken(method.teacher)
    batch = batch_of(method, pictures())
    whole = method.encoder.tokenize(batch.views[0])
    context, targets = method._blocks(batch, whole.grid)
    assert not (context & targets).any()
    assert context.any(1).all()
    taught = method.teacher.net.trunk(method.teacher.net.tokenize(batch.views[0])).patches
    off = []
    for row in range(6):
        places = context[row].nonzero().flatten()
        single = method.encoder.tokenize(batch.views[0].take(torch.tensor([row])))
        encoded = method.encoder.trunk(single.take(places[None])).values[0]
        filled = [method.predictor.mask_token] * 16
        for place, token in zip(places.tolist(), encoded[1:], strict=True):
            filled[place] = method.predictor.embed(token)
        decoded = method.predictor.blocks(
            single.with_values(torch.stack([method.predictor.embed(encoded[0]), *filled])[None])
        )
        predicted = method.predictor.head(decoded.values[0, 1:]).detach().numpy()
        off += [
            smooth(predicted[n], normal(taught[row, n].detach().numpy()), 1.0)
            for n in targets[row].nonzero().flatten().tolist()
        ]
    assert len(off) == int(method.count(batch))
    assert method(batch)["loss"].item() == pytest.approx(np.mean(off), abs=1e-9)


def test_i_jepa_targets_reach_the_student_through_the_teacher_alone():
    """Pixels outside the context change the targets and not the prediction's features."""
    method = made(IJEPA(), tokens())
    batch = batch_of(method, pictures())
    context, _ = method._blocks(batch, (4, 4))
    outside = (~context).view(-1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = batch.views[0].with_parts(pixels=batch.views[0]["pixels"].masked_fill(outside, 0.9))
    ours, theirs = method(batch), method(type(batch)([other], batch.index, batch.seed, batch.step, batch.progress))
    torch.testing.assert_close(ours["features"], theirs["features"])
    assert ours["loss"] != theirs["loss"]


@pytest.mark.parametrize("method", [Data2Vec(), IJEPA()])
def test_their_teachers_follow_after_a_step_and_have_no_gradient(method):
    method = made(method, tokens())
    batch = batch_of(method, pictures())
    found, _ = gradients(method, batch)
    assert not any(name.startswith("teacher") for name in found)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    before = [p.clone() for p in method.teacher.parameters()]
    method.after_step(0.0, {})
    for old, new, student in zip(before, method.teacher.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.99 * old + 0.01 * student)


def test_i_jepa_refuses_grids_without_blocks():
    with pytest.raises(RequestError, match="4 x 4 patches at least"):
        made(IJEPA(), tokens(patch=4))
