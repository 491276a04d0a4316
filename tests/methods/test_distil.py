"""Distillation: what is matched against arithmetic, whom it takes as a teacher, and that the same teacher must come back."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn as nn

from selftaught.core import Kept, ModelError, RequestError
from selftaught.core.batch import View
from selftaught.methods.distil import Distil
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.nets.frozen import Frozen
from selftaught.nets.small import SmallResNet

from .small import batch_of, convolutional, facts

IMAGE = find("image")(side=16, channels=3)
LABELS = {
    "task": "classify",
    "version": 1,
    "options": {"classes": ["a", "b", "c"]},
    "temperature": 1.5,
    "result": {"test": 1},
}


def teacher(folder, *, labels=None, modality=IMAGE, seed=5, classes=3):
    """The folder of a saved network of 16 features, with a head where labels are given."""
    torch.manual_seed(seed)
    encoder = SmallResNet(widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8)
    parts = {} if labels is None else {"head": nn.Linear(16, classes)}
    return str(
        store.save(
            folder, Kept(encoder, parts), sides={} if labels is None else {store.LABELS: labels}, fill=modality.save
        )
    )


def rows(count=6, side=16):
    pixels = torch.rand(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return View("image", parts={"pixels": pixels})


def made(method, view=None):
    torch.manual_seed(1)
    return method.setup(
        convolutional(), facts(IMAGE, (view or rows()).with_parts(pixels=(view or rows())["pixels"].float()))
    ).double()


def asked(method, view):
    """(features of the student through its head, the teacher's answer), as arrays."""
    return method.head(method.encoder(view)).detach().numpy(), method.guide.net(view).detach().numpy()


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_features_are_matched_by_direction_and_the_baseline_is_the_best_constant(tmp_path):
    method = made(Distil(teacher=teacher(tmp_path / "t")))
    batch = batch_of(method, rows())
    batch = type(batch)([rows()], batch.index)
    said, wanted = asked(method, rows())
    out = method(batch)
    assert out["loss"].item() == pytest.approx(np.mean(1 - (unit(said) * unit(wanted)).sum(1)), abs=1e-9)
    best = unit(unit(wanted).mean(0)[None])[0]
    assert float(out["baseline"]) == pytest.approx(np.mean(1 - unit(wanted) @ best), abs=1e-9)


def test_features_are_matched_by_smooth_error_of_standardised_ones(tmp_path):
    method = made(Distil(teacher=teacher(tmp_path / "t"), error="smooth"))
    said, wanted = asked(method, rows())
    wanted = (wanted - wanted.mean(1, keepdims=True)) / np.sqrt(wanted.var(1, keepdims=True) + 1e-5)
    smooth = lambda d: np.where(abs(d) < 1, d**2 / 2, abs(d) - 0.5).mean()  # noqa: E731
    out = method(type(batch_of(method, rows()))([rows()], torch.arange(6)))
    assert out["loss"].item() == pytest.approx(smooth(said - wanted), abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(smooth(wanted.mean(0) - wanted), abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_classes_of_a_finetuned_teacher_are_matched_and_handed_on(tmp_path, temperature):
    method = made(Distil(teacher=teacher(tmp_path / "t", labels=LABELS), temperature=temperature))
    said, wanted = asked(method, rows())
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(1, keepdims=True) for x in (wanted, said))
    out = method(type(batch_of(method, rows()))([rows()], torch.arange(6)))
    assert out["loss"].item() == pytest.approx(-np.mean((p * np.log(q)).sum(1)), abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(-(p.mean(0) * np.log(p.mean(0))).sum(), abs=1e-9)
    assert float(out["agreement"]) == pytest.approx(np.mean(said.argmax(1) == wanted.argmax(1)))
    store.save(tmp_path / "student", method.float().keep(), fill=IMAGE.save)
    assert json.loads((tmp_path / "student" / store.LABELS).read_text()) == {**LABELS, "result": {}}


def test_the_teacher_is_neither_trained_nor_saved_and_must_come_back(tmp_path):
    first, other = (made(Distil(teacher=teacher(tmp_path / n, seed=s))) for n, s in (("a", 5), ("b", 6)))
    assert not any("guide" in name for name, _ in first.named_parameters())
    assert [k for k in first.state_dict() if k.startswith("guide")] == ["guide.fingerprint"]
    made(Distil(teacher=teacher(tmp_path / "moved", seed=5))).load_state_dict(first.state_dict())
    with pytest.raises(ModelError, match="teacher is not the one"):
        other.load_state_dict(first.state_dict())


def test_it_stays_in_eval_mode_and_follows_the_method_to_its_type(tmp_path):
    method = made(Distil(teacher=teacher(tmp_path / "t"))).train()
    assert not any(m.training for m in method.guide.net.modules())
    before = {k: v.clone() for k, v in method.guide.net.state_dict().items()}
    method(type(batch_of(method, rows()))([rows()], torch.arange(6)))["loss"].backward()
    assert all(torch.equal(v, before[k]) for k, v in method.guide.net.state_dict().items())
    assert all(p.dtype == torch.float64 and p.grad is None for p in method.guide.net.parameters())


def test_pictures_of_another_size_are_resampled_for_the_teacher_and_it_says_so(tmp_path):
    name = teacher(tmp_path / "t", modality=find("image")(side=24, channels=3))
    method = made(Distil(teacher=name))
    assert method.guide.sized(rows())["pixels"].shape == (6, 3, 24, 24)
    assert method.notes() == [
        f"teacher: {name}, 16 features of each row are matched; pictures are resampled to 24 x 24 for it."
    ]
    assert "resampled" not in made(Distil(teacher=name, side=16)).notes()[0]
    flat = View("image", parts={"pixels": torch.full((2, 3, 5, 5), 51, dtype=torch.uint8)})
    torch.testing.assert_close(method.guide.sized(flat)["pixels"], torch.full((2, 3, 24, 24), 0.2))


def test_the_fingerprint_is_of_weights_and_of_how_pixels_are_normalised():
    nets = [convolutional(), convolutional(), convolutional()]
    with torch.no_grad():
        nets[1].conv.weight[0, 0, 0, 0] += 1e-9
    torch.manual_seed(0)
    nets[2] = SmallResNet(
        widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8, stride=1, patch=3, mean=(0.5,)
    ).double()
    marks = [Frozen(net).fingerprint for net in nets]
    assert torch.equal(marks[0], Frozen(convolutional()).fingerprint)
    assert not torch.equal(marks[0], marks[1])
    assert not torch.equal(marks[0], marks[2])


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("", RequestError, "needs a teacher"),
        ("resnet18", RequestError, "untrained"),
        ("timm:resnet18", RequestError, "untrained"),
        ("no/such/folder", ModelError, "no folder"),
        ("teacher", RequestError, "no encoder"),
    ],
)
def test_no_teacher_is_refused_in_words(name, error, said):
    with pytest.raises(error, match=said):
        made(Distil(teacher=name))


def test_broken_and_foreign_teachers_are_refused_in_words(tmp_path):
    whole = teacher(tmp_path / "t", labels=LABELS)
    with pytest.raises(RequestError, match="no classes to match"):
        made(Distil(teacher=teacher(tmp_path / "plain"), match="classes"))
    with pytest.raises(RequestError, match="its channels is '1', that of these rows '3'"):
        made(
            Distil(
                teacher=teacher(tmp_path / "grey", modality=find("image")(side=16, channels=1, mean=(0.5,), std=(0.2,)))
            )
        )
    with pytest.raises(ModelError, match="does not fit its encoder and labels"):
        made(Distil(teacher=teacher(tmp_path / "four", labels=LABELS, classes=4)))
    with pytest.raises(RequestError, match="temperature = 0"):
        made(Distil(teacher=whole, temperature=0.0))
    shutil.copytree(whole, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError):
        made(Distil(teacher=str(tmp_path / "cut")))
    (tmp_path / "t" / store.LABELS).write_text('{"task": "classify", "options": {}}')
    with pytest.raises(ModelError, match="names no classes"):
        made(Distil(teacher=whole))
    assert made(Distil(teacher=whole, match="features")).head.out_features == 16
