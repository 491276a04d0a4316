"""SimCSE: dropout is the only difference between the views, equal texts are no negatives, and a run may go on from masked tokens."""

import json
import math
from dataclasses import replace

import pytest
import torch

from selftaught.core import Batch, RequestError, View
from selftaught.methods.masked_token import MaskedToken
from selftaught.methods.simcse import SimCSE
from selftaught.nets import dropout, store
from selftaught.train import pretrain, resume
from selftaught.train.step import STEPS, reseed
from selftaught.views import row_keys

from .small import Texts, made, texts, words

TEXTS = [
    f"the {a} {b} sat on the {c}" for a in ("old", "red", "shy") for b in ("cat", "dog", "hen") for c in ("mat", "bed")
]


def batch(view, step=0) -> Batch:
    return Batch([view], torch.arange(len(view)), 0, step)


def by_hand(first, second, keys, temperature) -> tuple[float, float]:
    """Equation 4 with loops in float64, rows of equal keys left out of one another's sums; and the share of right matches."""
    losses, right = [], 0
    for i in range(len(first)):
        sims = {
            j: float(first[i] @ second[j] / (first[i].norm() * second[j].norm()))
            for j in range(len(first))
            if j == i or keys[j] != keys[i]
        }
        losses.append(-sims[i] / temperature + math.log(sum(math.exp(s / temperature) for s in sims.values())))
        right += max(sims, key=sims.get) == i
    return sum(losses) / len(losses), right / len(losses)


def test_the_loss_is_equation_4_without_equal_texts():
    view = texts((7, 4, 9, 3, 5, 7))
    twice = view.take(torch.tensor([0, 1, 2, 0, 3, 4, 5, 0]))  # three copies of the first
    method = made(SimCSE(), words(), Texts()).train()
    reseed(0, 0, 0, torch.device("cpu"))
    outputs = method(batch(twice))
    reseed(0, 0, 0, torch.device("cpu"))
    features = method.encoder(View.cat([twice, twice]))
    first, second = torch.tanh(method.head[0](features)).detach().chunk(2)
    wanted, right = by_hand(first, second, [0, 1, 2, 0, 3, 4, 5, 0], 0.05)
    assert float(outputs["loss"].detach()) == pytest.approx(wanted, abs=1e-10)
    assert float(outputs["accuracy"]) == pytest.approx(right)
    assert float(outputs["duplicates"]) == pytest.approx(3 / 8)
    assert float(outputs["baseline"]) == pytest.approx((3 * math.log(6) + 5 * math.log(8)) / 8)


def test_a_batch_of_copies_teaches_nothing_and_stays_finite():
    view = texts((7, 7)).take(torch.zeros(4, dtype=torch.int64))
    method = made(SimCSE(), words(), Texts()).train()
    loss = method(batch(view))["loss"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in method.parameters())


def test_keys_of_rows_are_those_of_their_content_whatever_the_padding():
    view = texts((7, 4, 9, 3))
    wide = View(
        "text",
        parts={
            "ids": torch.nn.functional.pad(view["ids"], (0, 5)),
            "valid": torch.nn.functional.pad(view["valid"], (0, 5)),
        },
    )
    keys = row_keys(view)
    assert torch.equal(keys, row_keys(wide))
    assert len(set(keys.tolist())) == 4
    swapped = view["ids"].clone()
    swapped[:, 1:3] = view["ids"][:, 1:3].flip(1)
    moved = (swapped != view["ids"]).any(1)
    assert moved.any()
    assert torch.equal(row_keys(view.with_parts(ids=swapped)) != keys, moved), "the order of tokens counts"


def test_every_row_of_both_passes_is_dropped_by_a_mask_of_its_own():
    view = texts((7, 7, 7)).take(torch.zeros(3, dtype=torch.int64))
    method = made(SimCSE(), words(), Texts()).train()
    reseed(0, 0, 0, torch.device("cpu"))
    features, _ = method._twice(batch(view))
    rows = features.detach().flatten(0, 1)
    apart = torch.cdist(rows, rows) + torch.eye(6, dtype=rows.dtype)
    assert float(apart.min()) > 1e-3, "six passes of one text, six masks"


@pytest.mark.parametrize("parts", [2, 4])
def test_a_replay_drops_what_the_first_pass_dropped(parts):
    """Gradients of a replayed step are those of one loss over all micro-batches, each with its own generator."""
    view = texts((7, 4, 9, 3, 5, 7, 6, 4))
    method = made(SimCSE(), words(), Texts()).train()
    whole = replace(batch(view, step=3), seed=5)
    outputs = STEPS["replay"](method, method, whole, lambda loss: loss.backward(), parts)
    replayed = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    embedded = []
    for number, rows in enumerate(torch.arange(8).chunk(parts)):
        reseed(5, 3, number, torch.device("cpu"))
        embedded.append(method.embed(batch(view.take(rows))))
    loss = method.couple(torch.cat(embedded))["loss"]
    loss.backward()
    assert float(outputs["loss"].detach()) == pytest.approx(float(loss.detach()), abs=1e-12)
    for name, p in method.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(replayed[name], p.grad, rtol=0, atol=1e-12, msg=name)
    features = embedded[0].detach()
    assert not torch.allclose(features[:, 0], features[:, 1]), "the views differ"


def test_without_dropout_it_is_refused_or_given_some():
    """Trap: most encoders drop nothing, and two passes would be one."""
    encoder = words()
    method = made(SimCSE(), encoder, Texts())
    assert (encoder.dropout, dropout.strongest(encoder)) == (0.1, 0.1)
    assert method.notes() == ["dropout: 0 -> 0.1 at 3 places of the encoder, as SimCSE needs some."]
    own = words(dropout=0.3)
    assert made(SimCSE(), own, Texts()).notes() == ["dropout: 0.3, the encoder's own."]
    with pytest.raises(RequestError, match="dropout 0 makes both the same"):
        made(SimCSE(dropout=0.0), words(), Texts())
    bare = words()
    for module in bare.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Dropout):
                setattr(module, name, torch.nn.Identity())
    with pytest.raises(RequestError, match="no place for any"):
        made(SimCSE(), bare, Texts())


def test_identical_views_would_teach_only_to_spread():
    """What the refusal is for: without dropout every text finds itself for nothing."""
    method = made(SimCSE(), words(), Texts()).train()
    dropout.switch_on(method, 0.0)
    outputs = method(batch(texts((7, 4, 9, 3))))
    assert float(outputs["accuracy"]) == 1
    torch.testing.assert_close(outputs["features"], outputs["positives"])


def test_masked_tokens_then_contrast_and_resume(tmp_path):
    """A run that starts from a masked-token run: dropout is switched on for the loaded encoder, and killed and resumed it is the same."""
    small = {"encoder_options": {"width": 16, "depth": 1, "heads": 2}, "recipe": {"batch": 6}}
    pretrain(TEXTS * 2, method="masked-token", steps=3, out=tmp_path / "masked", **small)
    masked = store.load_encoder(tmp_path / "masked" / "encoder")
    assert dropout.strongest(masked) == 0
    start = {"method": "simcse", "encoder": str(tmp_path / "masked"), "steps": 6, "recipe": {"batch": 6}, "seed": 2}
    whole = pretrain(TEXTS * 2, out=tmp_path / "whole", **start)
    config = json.loads((tmp_path / "whole" / "encoder" / "config.json").read_text())
    assert config["encoder"]["options"]["dropout"] == 0.1
    assert "dropout: 0 -> 0.1" in (tmp_path / "whole" / "log.txt").read_text()
    calls = iter([False, False, True])
    pretrain(TEXTS * 2, out=tmp_path / "cut", stop=lambda: next(calls), save_every=1, **start)
    again = resume(tmp_path / "cut", data=TEXTS * 2)
    assert again.result["resumed_from_step"] == 3
    ours, theirs = (store.state_of(r.encoder()) for r in (whole, again))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert any(not torch.equal(ours[k], v) for k, v in store.state_of(masked).items()), "it learned"


def test_alignment_and_uniformity_are_written_down(tmp_path):
    run = pretrain(
        TEXTS, method="simcse", steps=2, out=tmp_path / "run", recipe={"batch": 6},
        encoder_options={"width": 16, "depth": 1, "heads": 2},
    ).run  # fmt: skip
    last = run.metrics()[-1]
    assert 0 < last["alignment"] < 4
    assert -8 <= last["uniformity"] <= 0


def test_masked_token_gets_no_dropout_of_its_own():
    encoder = words()
    made(MaskedToken(), encoder, Texts())
    assert dropout.strongest(encoder) == 0
