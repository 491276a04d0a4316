"""COLA, same clip and BYOL-A: objectives against loops; windows of frames, past sounds, what evens a batch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught.core import Draw, RequestError, View
from selftaught.methods.byol_a import BYOLA, evened
from selftaught.methods.cola import COLA
from selftaught.methods.same_clip import SameClip
from selftaught.nets.past_sounds import PastSounds
from selftaught.views.resized_frames import ResizedFrames
from selftaught.views.spectrogram import FLOOR

from .sounds import BANDS, batch_of, convolutional, facts, made, sounds, transformer


def test_cola_finds_the_partner_by_a_bilinear_product():
    method = made(COLA(width=8), transformer())
    batch = batch_of(method, sounds())
    x, y = (method.encoder(v).detach().numpy() for v in batch.views)
    first, matrix = method.projector[0], method.similarity.weight.detach().numpy()

    def projected(v):
        v = first.weight.detach().numpy() @ v + first.bias.detach().numpy()
        return np.tanh((v - v.mean()) / math.sqrt(v.var() + 1e-5))

    scores = np.array([[(matrix @ projected(a)) @ projected(b) for b in y] for a in x])
    lost = [math.log(np.exp(scores[i]).sum()) - scores[i, i] for i in range(4)]
    found = method(batch)
    assert found["loss"].item() == pytest.approx(np.mean(lost), abs=1e-9)
    assert found["accuracy"].item() == pytest.approx(np.mean(scores.argmax(1) == np.arange(4)))
    assert found["baseline"].item() == pytest.approx(math.log(4))
    assert torch.equal(found["features"], torch.from_numpy(x))


def test_same_clip_asks_of_every_pair_and_weighs_yes_as_much_as_no():
    method = made(SameClip(width=8), transformer())
    batch = batch_of(method, sounds())
    a, b = (method.asked(method.encoder(batch.views[0])), method.other(method.encoder(batch.views[1])))
    scores = (a @ b.T / math.sqrt(8) + method.bias).detach().numpy()
    yes = [math.log(1 + math.exp(-scores[i, i])) for i in range(4)]
    no = [math.log(1 + math.exp(scores[i, j])) for i in range(4) for j in range(4) if i != j]
    found = method(batch)
    assert found["loss"].item() == pytest.approx((np.mean(yes) + np.mean(no)) / 2, abs=1e-9)
    right = (
        np.mean(np.diag(scores) > 0) + np.mean([scores[i, j] <= 0 for i in range(4) for j in range(4) if i != j])
    ) / 2
    assert found["accuracy"].item() == pytest.approx(right)
    assert found["baseline"].item() == pytest.approx(math.log(2))


def test_pairs_of_a_group_need_groups():
    method = SameClip(pairs="group")
    with pytest.raises(RequestError, match="no groups") as caught:
        method.views(facts())
    assert "--group" in caught.value.remedy
    assert [v.rows for v in method.views(facts(groups=True))] == ["one", "same group"]
    assert [v.rows for v in SameClip().views(facts(groups=True))] == ["one", "one"]


# BYOL-A ------------------------------------------------------------------------------------------------------------


def energies(rows=4, frames=20, seed=0) -> View:
    mel = 2 * torch.randn(rows, frames, BANDS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 7
    length = torch.tensor([frames, 7, 13, 1, 20, 5][:rows])
    there = torch.arange(frames) < length[:, None]
    return View("sound", parts={"mel": torch.where(there[..., None], mel, FLOOR), "length": length})


def test_byol_a_is_the_squared_distance_of_directions_both_ways():
    method = made(BYOLA(norm="layer", width=8, hidden=8), transformer())
    batch = batch_of(method, sounds())
    view = batch.views[0]
    method(batch)
    both = evened(View.cat([method._version(view, batch.draw(n)) for n in range(2)]), method.modality)
    student = method.predictor(method.projector(method.encoder(both))).detach().numpy()
    teacher = method.teacher(both).numpy()
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    lost = [
        sum(((unit(student[i + 4 * (1 - n)]) - unit(teacher[i + 4 * n])) ** 2).sum() for n in range(2))
        for i in range(4)
    ]
    assert method(batch)["loss"].item() == pytest.approx(np.mean(lost), abs=1e-9)
    one, two = both["mel"].chunk(2)
    assert not torch.allclose(one, two)


def test_what_lies_under_a_sound_adds_its_energy_and_silence_takes_a_share():
    past = PastSounds(size=3, frames=8, bands=BANDS, floor=FLOOR).double()
    view, draw = energies(), Draw(torch.arange(4), 1, 2)
    share = 0.4 * draw.uniform("share", 1, 1).double()
    there = (torch.arange(20) < view["length"][:, None])[..., None]
    quiet = past(view, draw, 0.4)["mel"]
    wanted = torch.log((1 - share) * view["mel"].exp() + share * math.exp(FLOOR))
    torch.testing.assert_close(quiet[there.expand_as(quiet)], wanted[there.expand_as(wanted)])
    past.push(past.kept(view))
    kept = past.ring.rows.view(3, 8, BANDS)
    assert torch.equal(
        kept[0], torch.cat([view["mel"][1, :7], view["mel"][1, :1]])
    )  # of four clips the last three stay
    assert torch.equal(kept[2], view["mel"][3, :1].expand(8, -1))  # of one frame
    which = draw.integers("past", 3)
    under = kept[which][:, torch.arange(20) % 8]
    wanted = torch.log((1 - share) * view["mel"].exp() + share * under.exp())
    found = past(view, draw, 0.4)["mel"]
    torch.testing.assert_close(found, torch.where(there, wanted, FLOOR))


def test_an_evened_batch_has_mean_0_and_deviation_1_over_its_true_frames():
    view = energies()
    made_even = evened(view, facts().modality)
    there = torch.arange(20) < view["length"][:, None]
    normal = (made_even["mel"][there] + 7.0) / 2.5
    assert normal.mean().item() == pytest.approx(0, abs=1e-9)
    assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-9)
    assert (made_even["mel"][~there] == FLOOR).all()
    flat = energies()
    flat = flat.with_parts(mel=torch.full_like(flat["mel"], -3.0))
    assert evened(flat, facts().modality)["mel"].isfinite().all()


def test_byol_a_refuses_encoders_of_waves_and_no_memory():
    encoder = transformer()
    encoder.__dict__["reads"] = "wave"
    for method, given in ((BYOLA(), encoder), (BYOLA(memory=0), convolutional()), (BYOLA(mixed=1.0), convolutional())):
        with pytest.raises(RequestError, match="byol-a changes log-mel energies"):
            method.setup(given, facts())


def test_windows_read_straight_lines_between_frames_and_bands():
    """One row by loops: which frames and bands each place comes from."""
    view, draw = energies(3), Draw(torch.arange(3), 4, 5)
    found = ResizedFrames((0.6, 0.9), (0.6, 1.4))(view, draw)["mel"].numpy()
    number = draw.uniform("window", 4).double().numpy()
    for row in range(3):
        mel, count = view["mel"][row].numpy(), int(view["length"][row])
        share, first = 0.6 + 0.3 * number[row, 0], None
        first = (1 - share) * BANDS * number[row, 1]
        long = 0.6 + 0.8 * number[row, 2]
        begin = (1.4 - long) * count * number[row, 3] - 0.4 * count / 2
        for t in range(20):
            for f in range(BANDS):
                if t >= count:
                    assert found[row, t, f] == pytest.approx(FLOOR)
                    continue
                band = min(max(first + (f + 0.5) * share - 0.5, 0), BANDS - 1)
                place = begin + (t + 0.5) * long - 0.5
                if not -0.5 <= place <= count - 0.5:
                    wanted = FLOOR
                else:
                    place = min(max(place, 0), count - 1)
                    low, under = min(int(band), BANDS - 2), int(place)
                    after = min(under + 1, count - 1)
                    lines = mel[:, low] + (band - low) * (mel[:, low + 1] - mel[:, low])
                    wanted = lines[under] + (place - under) * (lines[after] - lines[under])
                assert found[row, t, f] == pytest.approx(max(wanted, FLOOR), abs=1e-4)


def test_a_whole_window_changes_nothing_and_padding_changes_no_row():
    view, draw = energies(), Draw(torch.arange(4))
    whole = ResizedFrames((1.0, 1.0), (1.0, 1.0))
    torch.testing.assert_close(whole(view, draw)["mel"], view["mel"], rtol=0, atol=1e-5)
    wider = view.with_parts(mel=torch.cat([view["mel"], torch.full((4, 9, BANDS), FLOOR, dtype=torch.float64)], 1))
    window = ResizedFrames()
    assert torch.equal(window(wider, draw)["mel"][:, :20], window(view, draw)["mel"])
    assert not torch.equal(window(view, draw)["mel"], window(view, replace(draw, step=1))["mel"])
    assert "stretched" in window.describe()


def test_the_ring_of_past_sounds_fills_with_steps():
    method = made(BYOLA(memory=6, norm="layer"), transformer())
    silent = method.past.ring.rows.clone()
    batch = batch_of(method, sounds())
    outputs = {k: v.detach() for k, v in method(batch).items()}
    assert torch.equal(method.past.ring.rows, silent)
    method.after_step(0.1, outputs)
    assert (method.past.ring.rows != silent).any(1).tolist() == [True] * 4 + [False] * 2
    assert not torch.equal(method(batch)["loss"], outputs["loss"])
