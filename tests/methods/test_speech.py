"""wav2vec 2.0 and HuBERT: against transformers' loss, against loops in float64; short clips, padding, clusters, the collapse that looks like success."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from selftaught.core import Batch, Draw, Facts, RequestError, View, random
from selftaught.methods.hubert import HuBERT
from selftaught.methods.wav2vec2 import Wav2Vec2
from selftaught.modalities.sound import Sound
from selftaught.nets import pretrained_speech
from selftaught.nets.quantiser import gumbel
from selftaught.train import observe
from selftaught.train.refresh import begins
from selftaught.views.spans import other_places, span_masks

SMALL = {"channels": (8,), "width": 16, "depth": 2, "heads": 2, "position_kernel": 6, "position_groups": 2}
MODALITY = Sound(rate=8000, context=8000, typical=3000, bands=16)


def clips(*lengths: int, seed: int = 0) -> View:
    """Tones of several pitches with noise."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for number, length in enumerate(lengths):
        time = torch.arange(length) / 8000
        pitch = (200 + 150 * (number % 5)) * (1 + time)
        rows.append(0.3 * torch.sin(2 * math.pi * pitch * time) + 0.05 * torch.randn(length, generator=draw))
    return View("sound", parts={"wave": torch.nn.utils.rnn.pad_sequence(rows, True), "length": torch.tensor(lengths)})


def made(method, rows: int = 4, dtype: torch.dtype = torch.float64, **encoder):
    torch.manual_seed(0)
    facts = Facts(rows=rows, modality=MODALITY, batch=rows)
    net = MODALITY.encoder(facts, method.needs, None, **{**SMALL, **encoder})
    return method.setup(net, facts).to(dtype)


def batch_of(view: View, progress: float = 0.0, dtype: torch.dtype = torch.float64, step: int = 3) -> Batch:
    return Batch([view.with_parts(wave=view["wave"].to(dtype))], torch.arange(len(view)), 1, step, progress)


def drawn(method, batch):
    """(hidden (B, T), negatives by place among the hidden ones) as the method draws them."""
    lengths = method.encoder.frames(batch.views[0]["length"])
    hidden = span_masks(lengths, batch.draw(), method.share, method.span)
    counts = hidden.sum(1)
    return hidden, other_places(counts, batch.draw(), method.negatives, int(counts.max()))


def test_the_objective_is_transformers_on_the_same_masks_and_negatives():
    method = made(Wav2Vec2(negatives=7, codes=5, code_width=6, diversity=0.3, penalty=2.0)).eval()
    encoder, (groups, codes) = method.encoder, (2, 5)
    config = {
        **pretrained_speech.settings(encoder), "num_codevectors_per_group": codes, "num_codevector_groups": groups, "codevector_dim": 6,
        "proj_codevector_dim": 6, "num_negatives": 7,
    }  # fmt: skip
    theirs = Wav2Vec2ForPreTraining(Wav2Vec2Config(**config)).double()
    state = {f"wav2vec2.{k}": v for k, v in pretrained_speech.named(encoder).items()}
    state |= pretrained_speech.named_head(method.quantiser, method.predictor, method.target)
    theirs.load_state_dict({k: v.clone() for k, v in state.items()}, strict=True)
    batch = batch_of(clips(7000, 4100, 2500, 5000))
    hidden, negatives = drawn(method, batch)
    wave, length = encoder._waves(batch.views[0])
    flat = torch.zeros(*hidden.shape, 7, dtype=torch.int64)
    for row in range(4):
        places = hidden[row].nonzero().flatten()
        for k, place in enumerate(places.tolist()):
            flat[row, place] = row * hidden.shape[1] + places[negatives[row, k]]
    given = {
        "input_values": wave, "attention_mask": (torch.arange(wave.shape[1]) < length[:, None]).long(),
        "mask_time_indices": hidden.long(), "sampled_negative_indices": flat,
    }  # fmt: skip
    with torch.no_grad():
        sure = theirs.eval()(**given)  # the likeliest codes, without noise
        soft = theirs.train()(**given)  # the probabilities that diversity counts
        found, frames = method(batch), encoder.stem(batch.views[0])[0]
    count = hidden.sum()
    assert found["contrastive"].item() == pytest.approx(
        (sure.contrastive_loss / count).item(), abs=1e-6
    )  # theirs is in single precision
    assert found["code_perplexity"].item() == pytest.approx(soft.codevector_perplexity.item(), abs=1e-5)
    wanted = sure.contrastive_loss / count + 0.3 * soft.diversity_loss / count + 2 * frames.square().mean()
    assert found["loss"].item() == pytest.approx(wanted.item(), abs=1e-5)
    assert found["masked"].item() == pytest.approx((count / encoder.frames(length).sum()).item())


@torch.no_grad()
def test_the_objective_is_a_loop_with_noise():
    method = made(Wav2Vec2(negatives=5, codes=4, code_width=6)).train()
    batch = batch_of(clips(3000, 1280, 300, 2500))  # 160 ms and one frame are among them
    encoder, draw = method.encoder, batch.draw()
    hidden, negatives = drawn(method, batch)
    frames, layout = encoder.stem(batch.views[0])
    normed, read = encoder.projected(frames)
    flat = layout.pack(hidden)
    context = layout.pad(encoder.context(torch.where(flat[:, None], encoder.mask_token, read), layout)[-1])
    normed, nats, right, shares = layout.pad(normed), [], 0, torch.zeros(2, 4, dtype=torch.float64)
    for row in range(4):
        places = hidden[row].nonzero().flatten().tolist()
        ids = random.bits(draw.key("place"), draw.index)[row] + torch.tensor(places, dtype=torch.int64)
        if len(places) < 2:
            continue
        noise = gumbel(replace(draw, index=ids).uniform("gumbel", 2, 4)).double()
        logits = method.quantiser.score(normed[row, places]).view(-1, 2, 4)
        code = (logits + noise).argmax(-1)
        shares += logits.softmax(-1).sum(0).detach()
        for k, place in enumerate(places):
            truth = method.target(torch.cat([method.quantiser.vectors[g, code[k, g]] for g in range(2)]))
            spoken = method.predictor(context[row, place])
            cosine = lambda a, b: float(a @ b / a.norm() / b.norm())  # noqa: E731
            scores = [cosine(spoken, truth) / 0.1]
            for other in negatives[row, k].tolist():
                if code[other].tolist() != code[k].tolist():
                    vector = torch.cat([method.quantiser.vectors[g, code[other, g]] for g in range(2)])
                    scores.append(cosine(spoken, method.target(vector)) / 0.1)
            nats.append(-scores[0] + math.log(sum(map(math.exp, scores))))
            right += len(scores) > 1 and scores[0] > max(scores[1:])
    found = method(batch)
    used = shares / len(nats)
    perplexity = float(torch.special.entr(used).sum(1).exp().sum())
    wanted = np.mean(nats) + 0.1 * (8 - perplexity) / 8 + 10 * float(frames.square().mean())
    assert found["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert found["accuracy"].item() == pytest.approx(right / len(nats))
    assert not hidden[2].any()


@pytest.mark.parametrize("method", [Wav2Vec2(), HuBERT(clusters=6)], ids=["wav2vec2", "hubert"])
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_padding_changes_nothing(method, norm, progress):
    method = made(type(method)(**{k: v for k, v in vars(method).items() if k == "clusters"}), norm=norm)
    view = clips(2600, 1280, 900, 40)
    wave = torch.nn.functional.pad(view["wave"], (0, 4000))
    longer = view.with_parts(wave=wave.masked_fill(torch.arange(wave.shape[1]) >= view["length"][:, None], 0.0))
    one, other = method(batch_of(view, progress)), method(batch_of(longer, progress))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("method", [Wav2Vec2(), HuBERT(clusters=6)], ids=["wav2vec2", "hubert"])
@pytest.mark.parametrize("lengths", [(40,) * 4, (1280,) * 4, (40, 8000, 1, 300)], ids=str)
def test_clips_of_any_length_train(method, lengths):
    """5 ms clips have one frame, of which nothing can be hidden: no crash, no loss but the penalties', every gradient finite."""
    method = made(type(method)(), dtype=torch.float32)
    found = method(batch_of(clips(*lengths), dtype=torch.float32))
    found["loss"].backward()
    assert all(v.isfinite().all() for v in found.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)
    assert (found["masked"] > 0) == (max(lengths) > 300)


def test_identical_codes_are_no_negatives_and_that_collapse_is_named():
    """Not a success: the loss of all codes equal is 0."""
    method = made(Wav2Vec2(diversity=0.0, penalty=0.0), dtype=torch.float32)
    with torch.no_grad():
        method.quantiser.score.weight.zero_()
        method.quantiser.score.bias.view(2, -1)[:, 3] = 100.0
    found = method(batch_of(clips(4000, 3000, 5000, 2500), dtype=torch.float32))
    assert found["contrastive"].item() == found["accuracy"].item() == 0
    assert found["code_perplexity"].item() == pytest.approx(2)
    assert rung(observe.OneCode(), found, 3) == [1]


def rung(alarm, outputs: dict, times: int) -> list[int]:
    """The steps at which the alarm rings."""
    scalars = {k: float(v.detach()) for k, v in outputs.items() if v.ndim == 0}
    moment = lambda step: observe.Moment(step, 100, scalars["loss"], scalars, None, 0, 0, 0, 0)  # noqa: E731
    return [step for step in range(times) if alarm(moment(step))]


def trained(steps: int, rate: float, **options) -> list[tuple[str, int]]:
    """[(alarm, step)] of a small run."""
    method = made(Wav2Vec2(**options), rows=16, dtype=torch.float32)
    view = clips(*range(1800, 3400, 100))
    optimizer = torch.optim.AdamW(method.parameters(), rate, betas=(0.9, 0.98))
    alarms = [observe.OneCode(), observe.FewCodes(), observe.StemCollapse(), observe.Collapse()]
    heard = []
    for step in range(steps):
        found = method(batch_of(view, step / steps, torch.float32, step))
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step((step + 1) / steps, found)
        scalars = {k: float(v.detach()) for k, v in found.items() if v.ndim == 0}
        features = found["features"] if step % 10 == 0 else None
        moment = observe.Moment(step + 1, steps, scalars["loss"], scalars, features, 0, 0, 0, 0)
        heard += [(type(alarm).__name__, step) for alarm in alarms if alarm(moment)]
    return heard


def test_the_known_collapse_is_provoked_and_named_within_two_hundred_steps():
    heard = dict(reversed(trained(40, 3.0, diversity=0.0, penalty=0.0, stem_gradient=1.0)))
    assert heard["OneCode"] < 200


def test_the_default_recipe_does_not_collapse():
    assert not trained(60, Wav2Vec2().defaults(Facts(rows=16, modality=MODALITY)).lr)


def test_a_collapsed_stem_is_named_although_the_context_lives():
    healthy = {"loss": torch.tensor(4.0), "stem_rank": torch.tensor(4.0), "rank": torch.tensor(6.0)}
    assert rung(observe.StemCollapse(), healthy, 20) == []
    assert rung(observe.StemCollapse(), {**healthy, "stem_rank": torch.tensor(1.02)}, 20) == [6]
    assert (
        rung(observe.StemCollapse(), {**healthy, "stem_rank": torch.tensor(1.02), "rank": torch.tensor(1.1)}, 20) == []
    )


def test_what_a_small_batch_means_is_said():
    method = made(Wav2Vec2(), rows=16)
    first, second = method.notes()
    assert "0.1 minutes of sound; wav2vec 2.0 was published with 96" in first
    assert second == f"a typical clip has {method.typical} frames: spans of {method.typical // 4} instead of 10."


def test_a_published_codebook_goes_on_or_it_is_said_why_not(tmp_path):
    from transformers import Wav2Vec2FeatureExtractor

    from selftaught import nets

    source = made(Wav2Vec2(codes=5, code_width=6), dtype=torch.float32)
    config = {
        **pretrained_speech.settings(source.encoder),
        "num_codevectors_per_group": 5,
        "codevector_dim": 6,
        "proj_codevector_dim": 6,
    }
    theirs = Wav2Vec2ForPreTraining(Wav2Vec2Config(**config))
    theirs.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    for width, goes_on in ((6, True), (8, False)):
        encoder = nets.build("transformers", source=str(tmp_path))
        method = Wav2Vec2(codes=5, code_width=width).setup(encoder, Facts(rows=4, modality=MODALITY, batch=4))
        same = torch.equal(method.target.weight, theirs.project_q.weight) if goes_on else False
        assert same == goes_on
        assert ("go on learning" in method.notes()[0]) == goes_on
        assert goes_on or "code_width = 6" in method.notes()[0]


def sweep(view: View, progress: float) -> list[Batch]:
    """Every row once, in batches of two."""
    whole = batch_of(view, progress)
    return [replace(whole, views=[whole.views[0].take(rows)], index=rows) for rows in torch.arange(len(view)).split(2)]


@torch.no_grad()
def test_hubert_is_cross_entropy_with_the_nearest_cluster_of_hidden_frames():
    method = made(HuBERT(clusters=5, unmasked=0.5, temperature=0.2)).train()
    view = clips(3000, 1280, 2200, 4000)
    with torch.no_grad():
        method.refresh(sweep(view, 0.0))
    batch = batch_of(view)
    encoder, units = method.encoder, method.units
    hidden = span_masks(encoder.frames(view["length"]), batch.draw(), 0.8, 10)
    cepstra = units.cepstra(batch.views[0]["wave"], view["length"])
    values = encoder.trunk(encoder.tokenize(batch.views[0].with_parts(masked=hidden))).values
    nats: dict[bool, list[float]] = {True: [], False: []}
    for row, count in enumerate(encoder.frames(view["length"]).tolist()):
        for t in range(count):
            x = (cepstra[row, t] - units.heard.shift) / units.heard.scale
            label = int((x - units.heard.centroids).square().sum(1).argmin())
            spoken, words = method.projector(values[row, t]), method.prototypes.weight
            scores = torch.stack([spoken @ w / spoken.norm() / w.norm() for w in words]) / 0.2
            nats[bool(hidden[row, t])].append(float(scores.logsumexp(0) - scores[label]))
    found = method(batch)
    assert found["loss"].item() == pytest.approx(np.mean(nats[True]) + 0.5 * np.mean(nats[False]), abs=1e-9)
    assert method.count(batch).tolist() == [len(nats[True]), len(nats[False])]


def test_huberts_second_clusters_are_those_of_the_encoder_as_it_stood():
    method = made(HuBERT(clusters=4, layer=1)).train()
    view = clips(3000, 1500, 2200, 4000)
    with torch.no_grad():
        method.refresh(sweep(view, 0.0))
        first = method.units.heard.fingerprint()
        method.refresh(sweep(view, 0.5))
    kept, about = method.units.kept()
    assert (method.units.heard.fingerprint(), about["iteration"], kept) == (first, 2, method.units.inner)
    labels = method.units(batch_of(view).views[0], 0.5, method.encoder.frames(view["length"]))
    with torch.no_grad():
        stage = method.encoder.features(batch_of(view).views[0])[0]
        for p in method.encoder.parameters():
            p.add_(1.0)  # what the encoder learns later does not move its targets
    assert torch.equal(labels, method.units.inner(stage.values[stage.valid]))
    assert torch.equal(labels, method.units(batch_of(view).views[0], 0.5, method.encoder.frames(view["length"])))
    side = method.keep().sides["clusters.json"]
    assert side["sha256"] == kept.fingerprint()
    assert json.loads(json.dumps(side))["features"]["block"] == 1


def test_hubert_refuses_what_cannot_be():
    for wrong in ({"layer": 3}, {"iterations": 0}, {"clusters": 1}):
        with pytest.raises(RequestError, match="cannot be"):
            made(HuBERT(**wrong))


@pytest.mark.parametrize(("steps", "share"), [(100, 0.5), (7, 0.5), (10, 1 / 3), (101, 0.25)])
def test_shares_of_a_run_begin_as_often_as_they_should(steps, share):
    starts = [step for step in range(steps) if begins(step, share * steps)]
    assert len(starts) == round(1 / share)
    assert starts == [math.ceil(k * share * steps - 1e-9) for k in range(round(1 / share))]
    units = made(HuBERT(clusters=3, iterations=round(1 / share))).units
    assert [units.number(step / steps) for step in starts] == list(range(1, len(starts) + 1))


def test_a_rows_draw_is_its_own():
    method = made(Wav2Vec2()).train()
    view = clips(3000, 1280, 2600, 2500)
    together = method.embed(batch_of(view))
    for row in range(4):
        alone = Batch([batch_of(view).views[0].take(torch.tensor([row]))], torch.tensor([row]), 1, 3, 0.0)
        torch.testing.assert_close(method.embed(alone)[0], together[row], rtol=0, atol=1e-9)
    assert Draw(torch.tensor([1])).key("a") != Draw(torch.tensor([1])).key("b")
