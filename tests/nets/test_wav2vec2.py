"""wav2vec 2.0's network: equal to transformers', blind to padding, one formula for its frames; ragged rows, quantiser, dictionary, cepstra."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.metrics import pairwise_distances_argmin
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

from selftaught import nets
from selftaught.core import DataError, ModelError, RequestError, View
from selftaught.nets import pretrained_speech
from selftaught.nets.cepstra import Cepstra
from selftaught.nets.dictionary import Dictionary
from selftaught.nets.quantiser import GumbelQuantiser, gumbel
from selftaught.nets.ragged import Layout
from selftaught.nets.stem import default_shape, field, frames_of

SMALL = {"channels": (8,), "width": 16, "depth": 2, "heads": 2, "position_kernel": 6, "position_groups": 2}
SHAPES = [(norm, stable) for norm in ("layer", "group") for stable in (True, False)]


def clips(*lengths: int, seed: int = 0) -> View:
    draw = torch.Generator().manual_seed(seed)
    rows = [0.1 * torch.randn(n, generator=draw) for n in lengths]
    return View("sound", parts={"wave": torch.nn.utils.rnn.pad_sequence(rows, True), "length": torch.tensor(lengths)})


def made(**options):
    torch.manual_seed(0)
    encoder = nets.build("wav2vec2", **{"rate": 8000, **SMALL, **options}).eval()
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return encoder


@pytest.mark.parametrize(("norm", "stable"), SHAPES)
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_it_equals_transformers_clip_by_clip(norm, stable, kind):
    encoder = made(norm=norm, stable=stable, bias=stable, rate=16000)
    config, model = {"wav2vec2": (Wav2Vec2Config, Wav2Vec2Model), "hubert": (HubertConfig, HubertModel)}[kind]
    theirs = model(config(**pretrained_speech.settings(encoder))).eval()
    theirs.load_state_dict({k: v.clone() for k, v in pretrained_speech.named(encoder).items()}, strict=True)
    view = clips(6000, 2560, 401)
    prepare = Wav2Vec2FeatureExtractor(**pretrained_speech.processor(encoder))
    with torch.no_grad():
        ours = encoder.trunk(encoder.tokenize(view))
        stages = encoder.features(view)
        for row, length in enumerate(view["length"].tolist()):
            values = prepare(view["wave"][row, :length].numpy(), sampling_rate=16000, return_tensors="pt").input_values
            output = theirs(values, output_hidden_states=True)
            wanted, count = output.last_hidden_state[0], int(ours.valid[row].sum())
            assert len(wanted) == count == int(theirs._get_feat_extract_output_lengths(length))
            assert (ours.values[row, :count] - wanted).abs().max() < 2e-5
            if not stable:  # with norms in front, ours go through the last norm too
                assert (stages[0].values[row, :count] - output.hidden_states[1][0]).abs().max() < 2e-5


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=3), st.lists(st.integers(1, 300), min_size=1, max_size=4)
)  # fmt: skip
def test_one_formula_says_how_many_frames_the_stem_gives(layers, lengths):
    kernels, strides = tuple(max(k, s) for k, s in layers), tuple(s for _, s in layers)
    encoder = nets.build("wav2vec2", **{**SMALL, "channels": (4,), "kernels": kernels, "strides": strides})
    view = clips(*lengths)
    frames, layout = encoder.stem(view)
    wanted = [
        len(encoder.convolutions.plain(F.pad(w[None, :n], (0, max(0, field(kernels, strides) - n))))[0])
        for w, n in zip(encoder._waves(view)[0], lengths, strict=True)
    ]
    assert layout.lengths.tolist() == encoder.frames(view["length"]).tolist() == wanted
    assert len(frames) == sum(wanted)


def test_published_stems_at_common_rates():
    assert default_shape(16000) == ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    assert default_shape(8000) == ((10, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2))
    for rate in (8000, 11025, 16000, 22050, 44100, 48000):
        kernels, strides = default_shape(rate)
        assert 0.013 < math.prod(strides) / rate < 0.03
        assert field(kernels, strides) >= math.prod(strides)
    assert frames_of(torch.tensor([1, 400, 719, 720, 16000]), *default_shape(16000)).tolist() == [1, 1, 1, 2, 49]


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_the_stem_and_its_gradients_are_torchs_own_convolutions(norm):
    encoder = made(norm=norm).double()
    stem = encoder.convolutions
    view = clips(1700, 1000, 900)
    wave, length = encoder._waves(view)
    wave = wave.double()
    frames, _ = stem(wave, length)
    draw = torch.randn(frames.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((frames * draw).sum(), list(stem.parameters()))
    plain = torch.cat([stem.plain(wave[i : i + 1, :n])[0] for i, n in enumerate(length.tolist())])
    assert (frames - plain).abs().max() < 1e-12
    for one, other in zip(ours, torch.autograd.grad((plain * draw).sum(), list(stem.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("norm", "stable"), SHAPES)
@pytest.mark.parametrize("normalise", [True, False])
def test_a_clip_is_the_same_whatever_stands_beside_it(norm, stable, normalise):
    encoder = made(norm=norm, stable=stable, normalise=normalise)
    view = clips(4000, 1280, 40, 2000)  # 1280 samples are 160 ms, 40 are 5 ms
    wave = F.pad(view["wave"], (0, 3000))
    wave = torch.where(
        torch.arange(7000) < view["length"][:, None], wave, 0.7
    )  # what lies behind a clip's end is not heard
    with torch.no_grad():
        together = encoder(View("sound", parts={"wave": wave, "length": view["length"]}))
        for row, length in enumerate(view["length"].tolist()):
            alone = encoder(
                View("sound", parts={"wave": wave[row : row + 1, :length], "length": torch.tensor([length])})
            )
            assert (alone[0] - together[row]).abs().max() < 1e-5
    assert torch.isfinite(together).all()


def test_loudness_is_kept_only_where_waves_are_not_normalised():
    view = clips(2000)
    loud = view.with_parts(wave=3 * view["wave"] + 0.2)
    with torch.no_grad():
        change = {on: (made(normalise=on)(loud) - made(normalise=on)(view)).abs().max() for on in (True, False)}
    assert change[True] < 1e-4 < 1e-2 < change[False]


def test_samples_of_sixteen_bits_are_floats_of_one():
    view = clips(2000, 900)
    coarse = (view["wave"] * 32768).round().to(torch.int16)
    encoder = made(normalise=False)
    with torch.no_grad():
        same = encoder(view.with_parts(wave=coarse.float() / 32768))
        assert torch.equal(encoder(view.with_parts(wave=coarse)), same)


def test_a_part_of_the_tokens_is_what_attention_and_positions_see():
    encoder, view = made(), clips(4000, 4000)
    tokens = encoder.tokenize(view)
    keep = torch.tensor([[0, 3, 4, 7], [1, 2, 5, 9]])
    with torch.no_grad():
        some = encoder.trunk(tokens.take(keep))
        valid = torch.zeros_like(tokens.valid).scatter(1, keep, True)
        whole = encoder.trunk(type(tokens)(tokens.values, valid, grid=tokens.grid))
    picked = whole.values.gather(1, keep[..., None].expand(-1, -1, 16))
    assert (some.values - picked).abs().max() < 1e-5


def test_masks_put_the_mask_token_in_and_refusals_say_why():
    encoder, view = made(), clips(2000, 1000)
    plain = encoder.tokenize(view)
    masked = torch.zeros_like(plain.valid)
    masked[0, 2] = True
    values = encoder.tokenize(view.with_parts(masked=masked)).values
    assert torch.equal(values[0, 2], encoder.mask_token)
    assert torch.equal(values[~masked], plain.values[~masked])
    with pytest.raises(RequestError, match="looks both ways"):
        encoder.trunk(plain, causal=True)
    with pytest.raises(RequestError, match="hears waves"):
        encoder(View("sound", parts={"mel": torch.zeros(1, 4, 8), "length": torch.tensor([4])}))
    for wrong in (
        {"kernels": (2,), "strides": (3,)},
        {"kernels": (3, 3), "strides": (2,)},
        {"heads": 3},
        {"position_groups": 3},
    ):
        with pytest.raises(RequestError):
            nets.build("wav2vec2", **{**SMALL, **wrong})


def test_a_layout_packs_pads_and_sums():
    layout = Layout.of(torch.tensor([2, 0, 3]))
    x = torch.arange(10.0).view(5, 2).requires_grad_()
    padded = layout.pad(x)
    assert padded.shape == (3, 3, 2)
    assert padded[0, 2].tolist() == padded[1, 0].tolist() == [0, 0]
    assert torch.equal(layout.pack(padded), x)
    assert layout.owner.tolist() == [0, 0, 2, 2, 2]
    assert layout.position.tolist() == [0, 1, 0, 1, 2]
    assert torch.equal(layout.sums(x.detach()), torch.stack([x[:2].sum(0), torch.zeros(2), x[2:].sum(0)]).detach())
    weight = torch.randn(3, 3, 2)
    (padded * weight).sum().backward()
    assert torch.equal(x.grad, weight[layout.valid])


def test_the_quantiser_is_torchs_gumbel_softmax_exactly_one_hot():
    torch.manual_seed(0)
    quantiser = GumbelQuantiser(6, 2, 5, 8)
    x = torch.randn(20, 6)
    torch.manual_seed(7)
    noise = -torch.empty(40, 5).exponential_().log()
    vectors, code, shares = quantiser(x, noise.view(20, 2, 5))
    weight = torch.randn(vectors.shape)
    ours = torch.autograd.grad((vectors * weight).sum(), list(quantiser.parameters()))
    torch.manual_seed(7)
    logits = quantiser.score(x).view(40, 5)
    hard = F.gumbel_softmax(logits, tau=2.0, hard=True).view(20, 2, 5)
    theirs = torch.einsum("mgv,gvd->mgd", hard, quantiser.vectors).flatten(1)
    for one, other in zip(
        ours, torch.autograd.grad((theirs * weight).sum(), list(quantiser.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(vectors.view(20, 2, 4), torch.stack([quantiser.vectors[g][code[:, g]] for g in range(2)], 1))
    torch.testing.assert_close(shares, logits.softmax(-1).view(20, 2, 5))
    assert torch.isfinite(gumbel(torch.tensor([0.0, 1 - 2**-24]))).all()


def test_the_temperature_falls_and_is_in_the_state():
    quantiser = GumbelQuantiser(4, 1, 3, 4)
    seen = []
    for progress in (0.0, 0.3, 0.69, 1.0):
        quantiser.anneal(progress)
        seen.append(float(quantiser.temperature))
    assert seen[0] == 2
    assert seen == sorted(seen, reverse=True)
    assert seen[1] == pytest.approx(2 * math.exp(-0.6))
    assert seen[-1] == 0.5
    again = GumbelQuantiser(4, 1, 3, 4)
    again.load_state_dict(quantiser.state_dict())
    assert float(again.temperature) == 0.5


def test_cepstra_are_the_cosine_transform_with_slopes_of_the_row_alone():
    from scipy.fft import dct

    cepstra, view = Cepstra(8000, 160), clips(4000, 1000)
    found = cepstra(view["wave"], view["length"])
    mel, frames = cepstra.front(view["wave"], view["length"])
    for row, count in enumerate(frames.tolist()):
        still = dct(mel[row, :count].numpy(), norm="ortho", axis=1)[:, :13]
        at = lambda t, count=count: min(max(t, 0), count - 1)  # noqa: E731
        moving = np.array([sum(n * (still[at(t + n)] - still[at(t - n)]) for n in (1, 2)) / 10 for t in range(count)])
        assert np.abs(found[row, :count, :13].numpy() - still).max() < 1e-3
        assert np.abs(found[row, :count, 13:26].numpy() - moving).max() < 1e-3
    with pytest.raises(ValueError, match="labels would not meet frames"):
        Cepstra(8000, 0)


def test_a_dictionary_is_found_again_and_refused_where_it_has_one_word():
    centres = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 5
    x = centres.repeat(50, 1) + 0.01 * torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    one, other = Dictionary(6, 3), Dictionary(6, 3)
    one.fit(x, key=3)
    other.fit(x, key=3)
    assert one.fingerprint() == other.fingerprint()
    label = one(x).view(50, 4)
    standard = ((x - one.shift) / one.scale).numpy()
    assert np.array_equal(label.flatten().numpy(), pairwise_distances_argmin(standard, one.centroids.numpy()))
    assert len({tuple(v) for v in label.T.tolist()}) == 4
    few = Dictionary(6, 3)
    few.fit(centres[:2].repeat(9, 1), key=0)
    assert few.perplexity == pytest.approx(2)
    for hopeless in (torch.ones(30, 3), torch.zeros(1, 3), torch.full((5, 3), torch.nan)):
        with pytest.raises(DataError):
            Dictionary(6, 3).fit(hopeless, key=0)


def folder_of(model, place, **changes):
    model.save_pretrained(place)
    prepare = Wav2Vec2FeatureExtractor(
        sampling_rate=changes.pop("rate", 16000), do_normalize=changes.pop("normalise", True)
    )
    prepare.save_pretrained(place)
    if changes:
        path = place / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return str(place)


def theirs(kind=Wav2Vec2Model, **changes):
    torch.manual_seed(1)
    config = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 6,
        "num_conv_pos_embedding_groups": 2, "num_codevectors_per_group": 5, "codevector_dim": 6, "proj_codevector_dim": 10, "vocab_size": 9, **changes,
    }  # fmt: skip
    return kind((HubertConfig if kind is HubertModel else Wav2Vec2Config)(**config)).eval()


@pytest.mark.parametrize("kind", [Wav2Vec2Model, HubertModel, Wav2Vec2ForPreTraining])
def test_a_folder_of_transformers_is_read_into_our_network(kind, tmp_path):
    model = theirs(kind)
    encoder = nets.build("transformers", source=folder_of(model, tmp_path, normalise=False))
    assert (encoder.kind, encoder.architecture) == ("wav2vec2", "hubert" if kind is HubertModel else "wav2vec2")
    assert (encoder.rate, encoder.normalise, encoder.norm, encoder.stable) == (16000, False, "group", False)
    values = 0.1 * torch.randn(1, 3000)
    inner = getattr(model, "wav2vec2", model)
    with torch.no_grad():
        wanted = inner(values).last_hidden_state
        got = encoder.trunk(
            encoder.tokenize(View("sound", parts={"wave": values, "length": torch.tensor([3000])}))
        ).values
    assert (got - wanted).abs().max() < 1e-5
    assert bool(encoder.beside) == (kind is Wav2Vec2ForPreTraining)


def test_names_of_older_files_are_known(tmp_path):
    folder_of(theirs(), tmp_path)
    wanted = nets.build("transformers", source=str(tmp_path)).state_dict()
    state = load_file(tmp_path / "model.safetensors")
    old = {"original0": "weight_g", "original1": "weight_v"}
    renamed = {}
    for name, tensor in state.items():
        for now, before in old.items():
            name = name.replace(f"parametrizations.weight.{now}", before)
        renamed[f"wav2vec2.{name}"] = tensor
    assert any(n.endswith("weight_g") for n in renamed)
    save_file(renamed, tmp_path / "model.safetensors")
    again = nets.build("transformers", source=str(tmp_path)).state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in again.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"add_adapter": True}, "add_adapter"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"conv_dim": [9] * 7}, "asks for"),
        ({"num_attention_heads": 5}, "network"),
        ({"num_hidden_layers": 10**6}, "layers"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code"),
    ],
)
def test_folders_that_do_not_fit_are_refused(changes, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        nets.build("transformers", source=folder_of(theirs(), tmp_path, **changes))


def test_what_is_no_preprocessor_is_refused(tmp_path):
    folder_of(theirs(), tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": "fast"}')
    with pytest.raises(ModelError, match="sampling_rate"):
        nets.build("transformers", source=str(tmp_path))
    with pytest.raises(RequestError, match="has no mean"):
        nets.build("transformers", source=str(tmp_path), mean=(0.0,))


def test_a_copy_is_the_same():
    encoder, view = made(), clips(2000, 900)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(encoder)(view), encoder(view))
