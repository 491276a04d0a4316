"""MAE, next-token and masked-token: objectives against loops, what the encoder may see, and independence of padding."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught.core import Facts, RequestError, Target, View
from selftaught.methods.mae import MAE
from selftaught.methods.masked_token import MaskedToken
from selftaught.methods.next_token import NextToken

from .small import Pictures, Texts, batch_of, convolutional, facts, gradients, made, pictures, texts, tokens, words

METHODS = {"mae": MAE, "next-token": NextToken, "masked-token": MaskedToken}


def nats(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


# MAE ---------------------------------------------------------------------------------------------------------------


def mae_places(method, batch):
    return method._dropped(batch, method.encoder.tokenize(batch.views[0]))


def test_mae_is_the_squared_error_of_standardised_dropped_patches():
    """Row by row: kept tokens through the trunk, a mask token everywhere else through the decoder, dropped patches compared."""
    method = made(MAE(decoder_width=16, decoder_depth=1, decoder_heads=2), tokens())
    batch = batch_of(method, pictures())
    places, _, dropped = mae_places(method, batch)
    errors = []
    for row in range(6):
        whole = method.encoder.tokenize(batch.views[0].take(torch.tensor([row])))
        kept = whole.take(places[row : row + 1])
        encoded = method.encoder.trunk(kept).values[0]
        filled = [method.decoder.mask_token] * 16
        for place, token in zip(places[row].tolist(), encoded[1:], strict=True):
            filled[place] = method.decoder.embed(token)
        decoded = method.decoder.blocks(
            whole.with_values(torch.stack([method.decoder.embed(encoded[0]), *filled])[None])
        )
        predicted = method.decoder.head(decoded.values[0, 1:]).detach().numpy()
        patches = Pictures().target(batch.views[0], (4, 4)).values[row].numpy()
        for n in dropped[row].nonzero().flatten().tolist():
            p = patches[n]
            standard = (p - p.mean()) / math.sqrt(p.var(ddof=1) + 1e-6)
            errors.append(((predicted[n] - standard) ** 2).mean())
    assert len(errors) == 6 * 12
    assert method(batch)["loss"].item() == pytest.approx(np.mean(errors), abs=1e-9)
    assert int(method.count(batch)) == 72


def test_mae_encoder_sees_no_dropped_pixel_and_the_target_is_nothing_else():
    method = made(MAE(), tokens())
    batch = batch_of(method, pictures())
    dropped = mae_places(method, batch)[2]
    pixel = dropped.view(6, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).double()
    noise = torch.rand(6, 3, 8, 8, dtype=torch.float64)

    def change(where):
        return replace(batch, views=[batch.views[0].with_parts(pixels=batch.views[0]["pixels"] + noise * where)])

    before, unseen, seen = method(batch), method(change(pixel)), method(change(1 - pixel))
    assert torch.equal(before["features"], unseen["features"])
    assert not torch.equal(before["loss"], unseen["loss"])
    assert not torch.allclose(before["features"], seen["features"])
    target, again = (Pictures().target(b.views[0], (4, 4)).values[dropped] for b in (batch, change(1 - pixel)))
    assert torch.equal(target, again)


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.99])
def test_mae_drops_the_ratio_and_keeps_at_least_one(ratio):
    method = made(MAE(ratio=ratio), tokens())
    batch = batch_of(method, pictures(40))
    places, stays, dropped = mae_places(method, batch)
    kept = max(1, round(16 * (1 - ratio)))
    assert places.shape == (40, kept)
    assert stays.all()
    assert (dropped.sum(1) == 16 - kept).all()
    assert len({tuple(sorted(p)) for p in places.tolist()}) > 5  # each row its own
    assert not torch.equal(places, mae_places(method, replace(batch, step=1))[0])


def test_mae_without_normalising_predicts_pixels():
    plain, normal = (made(MAE(normalise=n), tokens()) for n in (False, True))
    batch = batch_of(plain, pictures())
    assert not torch.allclose(plain(batch)["loss"], normal(batch)["loss"])


# next token --------------------------------------------------------------------------------------------------------


def test_next_token_is_the_mean_surprise_of_each_word_given_those_before():
    method = made(NextToken(), words(), Texts())
    view = texts((7, 4, 9, 3))
    total, count = 0.0, 0
    for ids, valid in zip(view["ids"], view["valid"], strict=True):
        length = int(valid.sum())
        for n in range(1, length):
            before = View("text", parts={"ids": ids[None, :n], "valid": torch.ones(1, n, dtype=torch.bool)})
            logits = method.head(method.encoder.trunk(method.encoder.tokenize(before), causal=True).values[0, -1])
            total, count = total + nats(logits.tolist(), int(ids[n])), count + 1
    batch = batch_of(method, view, Texts())
    assert count == 6 + 3 + 8 + 2 == int(method.count(batch))
    assert method(batch)["loss"].item() == pytest.approx(total / count, abs=1e-9)


def test_the_end_is_learnt_where_padding_has_its_id():
    """Padding is told by `valid`, never by an id: else a tokenizer whose padding is its end mark never learns to end."""
    method = made(NextToken(tied=False), words(), Texts())
    view = texts((7, 4))
    same_id = view.with_parts(ids=view["ids"].masked_fill(~view["valid"], 2))
    (grads, loss), (others, again) = (gradients(method, batch_of(method, v, Texts())) for v in (view, same_id))
    assert torch.equal(loss, again)
    assert torch.equal(grads["head.weight"], others["head.weight"])
    _, target, chosen = method._target(batch_of(method, same_id, Texts()))
    assert (target.values[chosen] == 2).sum() == 2


class OneTarget(Texts):
    """Texts of which only token 5 is to be predicted."""

    def target(self, view, grid):
        whole = super().target(view, grid)
        return replace(whole, valid=whole.valid & (torch.arange(whole.valid.shape[1]) == 5))


def test_next_token_sees_nothing_of_the_token_itself_or_after():
    method = made(NextToken(tied=False), words(), Texts())
    method.modality = OneTarget()
    embedded = []
    method.encoder.embedding.register_forward_hook(lambda m, i, out: (out.retain_grad(), embedded.append(out))[1])
    method(batch_of(method, texts((9, 9)), OneTarget()))["loss"].backward()
    reached = embedded[-1].grad.abs().sum(-1)
    assert (reached[:, :5] > 0).all()
    assert (reached[:, 5:] == 0).all()


def test_next_token_reads_packed_documents_as_if_they_stood_alone():
    """Neither attention nor targets cross a border: a copy of the first document is no easier than the first."""
    method = made(NextToken(), words(), Texts())
    alone = texts((5, 5), seed=3)
    ids = torch.cat([alone["ids"][0], alone["ids"][0], alone["ids"][1]])[None]
    packed = View(
        "text",
        parts={
            "ids": ids,
            "valid": torch.ones(1, 15, dtype=torch.bool),
            "segment": torch.arange(3).repeat_interleave(5)[None],
        },
    )
    three = alone.take(torch.tensor([0, 0, 1]))
    assert int(method.count(batch_of(method, packed, Texts()))) == 12
    torch.testing.assert_close(
        method(batch_of(method, packed, Texts()))["loss"],
        method(batch_of(method, three, Texts()))["loss"],
        rtol=0,
        atol=1e-12,
    )


def test_next_token_of_values_predicts_the_next_patch():
    method = made(NextToken(), tokens())
    batch = batch_of(method, pictures())
    read = method.encoder.trunk(method.encoder.tokenize(batch.views[0]), causal=True).patches
    predicted, wanted = (
        method.head(read[:, :-1]).detach().numpy(),
        Pictures().target(batch.views[0], (4, 4)).values.numpy()[:, 1:],
    )
    assert method(batch)["loss"].item() == pytest.approx(((predicted - wanted) ** 2).mean(), abs=1e-9)


def test_next_token_leaves_an_encoder_that_reads_as_it_was_trained():
    """Or else evaluation would show every token its future for the first time."""
    for encoder, view, modality in ((words(), texts((9, 9)), Texts()), (tokens(), pictures(2), Pictures())):
        method = made(NextToken(), encoder, modality).eval()
        wanted = encoder.trunk(encoder.tokenize(view), causal=True)
        assert encoder.config()["options"]["causal"] is True
        torch.testing.assert_close(encoder(view), encoder.pool(wanted))
        torch.testing.assert_close(encoder.features(view)[-1].values, wanted.values)
        assert method.keep().encoder is encoder


def test_next_token_refuses_a_class_token_that_sees_nothing():
    with pytest.raises(RequestError, match="sees nothing"):
        made(NextToken(), tokens(pooling="class"))


# masked token ------------------------------------------------------------------------------------------------------


def test_masked_token_is_the_mean_surprise_of_the_hidden_words():
    method = made(MaskedToken(ratio=0.3), words(), Texts())
    view = texts((7, 4, 9, 3))
    batch = batch_of(method, view, Texts())
    _, chosen, _ = method._target(batch)
    total, count = 0.0, 0
    for row in range(4):
        length = int(view["valid"][row].sum())
        hidden = [
            3 if c else i
            for c, i in zip(chosen[row, :length].tolist(), view["ids"][row, :length].tolist(), strict=True)
        ]
        alone = View("text", parts={"ids": torch.tensor([hidden]), "valid": torch.ones(1, length, dtype=torch.bool)})
        logits = method.head(method.encoder.trunk(method.encoder.tokenize(alone)).values[0])
        for n in chosen[row].nonzero().flatten().tolist():
            total, count = total + nats(logits[n].tolist(), int(view["ids"][row, n])), count + 1
    assert count == int(method.count(batch)) == 2 + 1 + 2 + 1
    assert method(batch)["loss"].item() == pytest.approx(total / count, abs=1e-9)


def test_masked_token_never_hides_marks_or_padding():
    method = made(MaskedToken(ratio=0.9), words(), Texts())
    view = texts((12, 3, 7) * 10)
    for step in range(5):
        _, chosen, _ = method._target(batch_of(method, view, Texts(), step=step))
        assert (view["ids"][chosen] >= 4).all()
        assert view["valid"][chosen].all()
        assert (chosen.sum(1) >= 1).all()


def test_masked_token_with_nothing_to_hide_is_zero_not_nan():
    method = made(MaskedToken(), words(), Texts())
    view = View("text", parts={"ids": torch.tensor([[1, 2], [1, 2]]), "valid": torch.ones(2, 2, dtype=torch.bool)})
    grads, loss = gradients(method, batch_of(method, view, Texts()))
    assert loss == 0
    assert all(g.isfinite().all() for g in grads.values())


def test_masked_token_masks_are_fresh_each_step_and_fixed_within_it():
    method = made(MaskedToken(ratio=0.5), tokens())
    batch = batch_of(method, pictures())
    assert torch.equal(method._target(batch)[1], method._target(batch)[1])
    assert not torch.equal(method._target(batch)[1], method._target(replace(batch, step=1))[1])
    assert not torch.equal(method._target(batch)[1], method._target(replace(batch, seed=1))[1])


def test_masked_token_hides_patches_behind_the_mask_token():
    method = made(MaskedToken(ratio=0.5), tokens())
    batch = batch_of(method, pictures())
    _, chosen, _ = method._target(batch)
    pixel = chosen.view(6, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).double()
    changed = replace(batch, views=[batch.views[0].with_parts(pixels=batch.views[0]["pixels"] + pixel)])
    assert torch.equal(method(batch)["features"], method(changed)["features"])
    assert not torch.equal(method(batch)["loss"], method(changed)["loss"])


# what they share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_loss_does_not_depend_on_padding(name):
    method = made(METHODS[name](), words(), Texts())
    narrow, wide = (gradients(method, batch_of(method, texts((9, 4, 6), width=w), Texts())) for w in (9, 13))
    torch.testing.assert_close(narrow[1], wide[1], rtol=0, atol=1e-12)
    for key in narrow[0]:
        torch.testing.assert_close(narrow[0][key], wide[0][key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_loss_weighs_targets_not_rows(name):
    """A row alone gives its own mean; together they give the mean over all targets, not the mean of these means."""
    method = made(METHODS[name](), words(), Texts())
    view = texts((14, 4, 6))
    batch = batch_of(method, view, Texts())
    sums, counts = [], []
    for row in range(3):
        alone = batch_of(method, view.take(torch.tensor([row])), Texts(), index=torch.tensor([row]))
        counts.append(int(method.count(alone)))
        sums.append(method(alone)["loss"].item() * counts[-1])
    assert sum(counts) == int(method.count(batch))
    assert method(batch)["loss"].item() == pytest.approx(sum(sums) / sum(counts), abs=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_missing_observations_are_not_predicted(name):
    """Where the target is not valid, its value does not matter, however wild."""

    class Gappy(Pictures):
        wild = 0.0

        def target(self, view, grid):
            whole = super().target(view, grid)
            gap = torch.arange(16) % 3 == 0
            return replace(whole, values=whole.values.masked_fill(gap[:, None], self.wild), valid=whole.valid & ~gap)

    method = made(METHODS[name](), tokens())
    batch, found = batch_of(method, pictures()), []
    for wild in (0.0, 1e6):
        Gappy.wild = wild
        method.modality = Gappy()
        found.append(method(batch)["loss"])
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", ["next-token", "masked-token"])
def test_a_tied_head_is_the_embedding_and_trains_once(name):
    method = made(METHODS[name](), words(), Texts())
    kept = method.keep()
    assert kept.parts["head"].weight is kept.encoder.embedding.weight
    assert kept.ties == {"head.weight": "embedding.weight"}
    trained = [id(p) for g in method.param_groups() for p in g["params"]]
    assert len(trained) == len(set(trained))
    untied = made(METHODS[name](tied=False), words(), Texts()).keep()
    assert untied.parts["head"].weight is not untied.encoder.embedding.weight
    assert untied.ties == {}


def test_heads_are_as_wide_as_the_modalitys_target():
    assert made(NextToken(), words(), Texts()).head.out_features == 11
    assert made(MaskedToken(), tokens()).head.out_features == 12
    assert made(MAE(), tokens(patch=4), replace(Pictures(), patch=4)).decoder.head.out_features == 48


def test_setting_up_without_an_example_says_what_is_missing():
    with pytest.raises(ValueError, match=r"Facts\(sample=a raw view"):
        MAE().setup(tokens(), Facts(rows=10, modality=Pictures()))


def test_convolutional_encoders_have_no_tokens_to_drop():
    assert MAE.needs - convolutional().can >= {"tokens", "mask"}
    assert isinstance(Pictures().target(pictures(), (4, 4)), Target)
    assert facts().rows == 100
