"""BEST-RQ, APC and CPC: objectives against loops, what the encoder may see, candidates, codes and their alarm."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught.core import RequestError
from selftaught.methods.apc import APC
from selftaught.methods.best_rq import BestRQ, by_clip
from selftaught.methods.cpc import CPC
from selftaught.nets.random_codes import RandomCodes

from .sounds import BANDS, LENGTHS, MODALITY, batch_of, facts, made, sounds, transformer

RQ = {"codes": 8, "codebooks": 2, "width": 4}


def nats(logits: np.ndarray, label: int) -> float:
    return math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


def frames_of(row: int, step: int = 1) -> int:
    return math.ceil(math.ceil(LENGTHS[row] / 80) / step)


# BEST-RQ -----------------------------------------------------------------------------------------------------------


def rq_masks(method, batch):
    return method._target(batch)[1]


def test_best_rq_is_the_cross_entropy_of_the_nearest_random_codes_of_hidden_tokens():
    method = made(BestRQ(**RQ), transformer())
    batch = batch_of(method, sounds())
    mel, chosen = batch.views[0]["mel"], rq_masks(method, batch)
    encoder = method.encoder
    read = encoder.trunk(encoder.tokenize(batch.views[0].with_parts(masked=chosen))).values
    logits = method.head(read).detach().numpy()
    books, codes = (x.numpy() for x in (method.quantiser.projections, method.quantiser.codes))
    lost, used = [], []
    for row in range(4):
        count = frames_of(row)
        normal = (mel[row].numpy() + 7.0) / 2.5
        for band in range(BANDS):
            true = normal[:count, band]
            normal[:, band] = (normal[:, band] - true.mean()) / math.sqrt(true.var() + 0.01)
        normal[count:] = 0
        for n in chosen[row].nonzero().flatten().tolist():
            stretch = np.zeros((4, BANDS))
            stretch[: len(normal[4 * n : 4 * n + 4])] = normal[4 * n : 4 * n + 4]
            both = []
            for book in range(2):
                seen = stretch.reshape(-1) @ books[book]
                cosines = [seen @ c / np.linalg.norm(seen) / np.linalg.norm(c) for c in codes[book]]
                used.append((book, int(np.argmax(cosines))))
                both.append(nats(logits[row, n, 8 * book : 8 * book + 8], used[-1][1]))
            lost.append(np.mean(both))
    found = method(batch)
    assert found["loss"].item() == pytest.approx(np.mean(lost), abs=1e-9)
    assert int(method.count(batch)) == len(lost)
    assert found["baseline"].item() == pytest.approx(math.log(8), abs=1e-6)  # nothing is known of the codes yet
    entropies = []
    for book in range(2):
        share = np.bincount([c for b, c in used if b == book], minlength=8) / len(lost)
        entropies.append(math.exp(-sum(p * math.log(p) for p in share if p)))
    assert found["code_perplexity"].item() == pytest.approx(np.mean(entropies), abs=1e-6)
    tokens = [frames_of(row, 4) - (0 < frames_of(row) % 4 < 2) for row in range(4)]
    assert found["masked"].item() == pytest.approx(np.mean(chosen.sum(1).numpy() / tokens), abs=1e-6)


def test_a_blind_guess_learns_how_often_codes_occur():
    method = made(BestRQ(**RQ), transformer())
    batch = batch_of(method, sounds())
    first = method(batch)
    for _ in range(50):
        method.after_step(0.5, {k: v.detach() for k, v in first.items()})
    codes = method._target(batch)[0]
    share = [np.bincount(codes[:, b].numpy(), minlength=8) / len(codes) for b in range(2)]
    entropy = np.mean([-sum(p * math.log(p) for p in s if p) for s in share])
    assert method(batch)["baseline"].item() == pytest.approx(entropy, abs=0.02)


@pytest.mark.parametrize("way", ["token", "noise"])
def test_best_rq_encoder_hears_nothing_of_what_is_hidden(way):
    method = made(BestRQ(**RQ, replace=way), transformer())
    batch = batch_of(method, sounds())
    chosen = rq_masks(method, batch)
    mel = batch.views[0]["mel"]
    frame = chosen.repeat_interleave(4, 1)[:, : mel.shape[1], None].double()

    def changed(where):
        return replace(
            batch, views=[batch.views[0].with_parts(mel=mel + 2 * torch.rand(mel.shape[:2])[..., None] * where)]
        )

    before, unseen, seen = method(batch), method(changed(frame)), method(changed(1 - frame))
    assert torch.equal(before["features"], unseen["features"])
    assert not torch.allclose(before["features"], seen["features"])
    assert not torch.equal(before["loss"], unseen["loss"])


def test_targets_do_not_know_the_microphone_and_noise_is_quiet():
    """A gain for each band is taken out by the clip's own mean; what stands for hidden frames has a tenth of the data's deviation."""
    method = made(BestRQ(**RQ, replace="noise"), transformer())
    batch = batch_of(method, sounds())
    view = batch.views[0]
    there = torch.arange(view["mel"].shape[1]) < view["length"][:, None]
    tilted = view["mel"] + there[..., None] * torch.linspace(-3, 3, BANDS)
    assert torch.equal(method._target(batch)[0], method._target(replace(batch, views=[view.with_parts(mel=tilted)]))[0])


def test_codes_of_rows_that_are_not_normalised_are_few():
    x = torch.randn(2000, 40, generator=torch.Generator().manual_seed(0))
    codes = RandomCodes(inputs=40, codebooks=2, codes=64, width=8, seed=3)
    perplexity = []
    for rows in (x, x + 3):
        share = torch.stack([torch.bincount(c, minlength=64) for c in codes(rows).T]) / 2000
        perplexity.append(float(torch.special.entr(share).sum(1).exp().mean()))
    assert perplexity[0] > 30
    assert perplexity[1] < perplexity[0] / 3


def test_codes_are_drawn_from_their_seed_alone():
    torch.manual_seed(5)
    one = RandomCodes(inputs=6, codebooks=2, codes=4, width=3, seed=1)
    torch.manual_seed(6)
    same, other = (RandomCodes(inputs=6, codebooks=2, codes=4, width=3, seed=s) for s in (1, 2))
    assert torch.equal(one.projections, same.projections)
    assert torch.equal(one.codes, same.codes)
    assert not torch.equal(one.codes, other.codes)
    assert not torch.equal(one.projections[0], one.projections[1])
    with pytest.raises(ValueError, match="tell nothing apart"):
        RandomCodes(inputs=6, codebooks=2, codes=1, width=3)


def test_normalising_by_clip_looks_at_true_frames():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64) + 7
    found = by_clip(x, torch.tensor([12, 6])).flatten(1, 2)
    first = x.flatten(1, 2)[1, :6].numpy()
    wanted = (first - first.mean(0)) / np.sqrt(first.var(0) + 0.01)
    assert np.allclose(found[1, :6], wanted, atol=1e-12)
    assert not found[1, 6:].any()


# APC ---------------------------------------------------------------------------------------------------------------


def test_apc_is_the_absolute_error_of_the_token_some_steps_ahead():
    method = made(APC(ahead=3), transformer())
    batch = batch_of(method, sounds())
    mel = ((batch.views[0]["mel"] + 7) / 2.5).numpy()
    read = method.encoder.trunk(method.encoder.tokenize(batch.views[0]), causal=True).values
    said = method.head(read).detach().numpy()
    off, copied, truths = [], [], []
    for row in range(4):
        count = frames_of(row)
        heard = np.zeros((4 * math.ceil(count / 4), BANDS))
        heard[:count] = mel[row, :count]
        tokens = heard.reshape(-1, 4 * BANDS)
        usable = sum(4 * n + 2 <= count for n in range(len(tokens)))
        for n in range(usable - 3):
            off.append(np.abs(said[row, n] - tokens[n + 3]).mean())
            copied.append(np.abs(tokens[n] - tokens[n + 3]).mean())
            truths.append(tokens[n + 3])
    found = method(batch)
    assert found["loss"].item() == pytest.approx(np.mean(off), abs=1e-9)
    assert found["copied"].item() == pytest.approx(np.mean(copied), abs=1e-9)
    assert found["baseline"].item() == pytest.approx(np.abs(np.array(truths) - np.mean(truths, 0)).mean(), abs=1e-9)
    assert int(method.count(batch)) == len(off)


@pytest.mark.parametrize("method", [APC(ahead=2), CPC(ahead=2, width=8)])
def test_a_token_knows_nothing_of_what_follows(method):
    method = made(method, transformer())
    assert method.encoder.causal
    view = batch_of(method, sounds()).views[0]
    later = view.with_parts(mel=view["mel"] + (torch.arange(view["mel"].shape[1]) >= 16)[:, None])
    one, two = (method.encoder.trunk(method.encoder.tokenize(v)).values for v in (view, later))
    assert torch.equal(one[:, :4], two[:, :4])
    assert not torch.allclose(one[0, 4:], two[0, 4:])


@pytest.mark.parametrize(
    ("method", "text"), [(APC(ahead=13), "ahead = 13"), (CPC(ahead=0), "ahead = 0"), (CPC(others=0), "others = 0")]
)
def test_steps_that_no_sound_has_are_refused(method, text):
    with pytest.raises(RequestError, match=f"{text}.*up to 13 tokens") as caught:
        method.setup(transformer(), facts())
    assert "1 to 12" in caught.value.remedy


# CPC ---------------------------------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_cpc_tells_the_following_tokens_from_those_of_its_own_clip_and_of_others():
    method = made(CPC(ahead=2, others=2, width=8), transformer())
    batch = batch_of(method, sounds())
    tokens = method.encoder.tokenize(batch.views[0])
    valid = MODALITY.target(batch.views[0], tokens.grid).valid.numpy()
    latent = unit(method.latent(tokens.values).detach().numpy())
    ahead = method.guesses(method.encoder.trunk(tokens, causal=True).values).detach().numpy()
    ahead = unit(ahead.reshape(*ahead.shape[:2], 2, 8))
    number = batch.draw().uniform("others", valid.shape[1]).numpy()
    stand = [sorted(np.flatnonzero(valid[r]), key=lambda n: number[r, n])[:2] for r in range(4)]
    lost, right, chance = [], [], []
    for row in range(4):
        count = int(valid[row].sum())
        for t in range(count):
            for k in (1, 2):
                if t + k >= count:
                    continue
                own = [latent[row, s] for s in range(count) if s != t + k]
                foreign = [latent[r, s] for r in range(4) if r != row for s in stand[r]]
                scores = np.array([ahead[row, t, k - 1] @ z for z in [latent[row, t + k], *own, *foreign]]) / 0.1
                lost.append(nats(scores, 0))
                right.append(scores[0] > scores[1:].max())
                chance.append(math.log(len(scores)))
    found = method(batch)
    assert found["loss"].item() == pytest.approx(np.mean(lost), abs=1e-9)
    assert found["accuracy"].item() == pytest.approx(np.mean(right), abs=1e-9)
    assert found["baseline"].item() == pytest.approx(np.mean(chance), abs=1e-9)


def test_clips_without_a_following_token_cost_nothing_and_are_finite():
    method = made(CPC(ahead=2, width=8), transformer())
    loss = method(batch_of(method, sounds((300, 320))))["loss"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
