"""What frames spell, by brute force over all paths; heads of tokens; whole sounds as tokens; a mixture of stages."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught import nets
from selftaught.core import Encoder, Kept, RequestError, View
from selftaught.nets import listening as room
from selftaught.nets import store
from selftaught.nets.ctc import CtcHead
from selftaught.nets.ctc_search import collapsed, greedy, prefix_beams
from selftaught.nets.listening import Listening, listening, noise, tokens_of
from selftaught.nets.weighted import WeightedStages


def log_probabilities(frames: int, labels: int, seed: int, sharp: float = 2.0) -> np.ndarray:
    x = sharp * np.random.default_rng(seed).normal(size=(frames, labels))
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def every_sequence(logp: np.ndarray) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(logp.shape[1]), repeat=len(logp)):
        spelled = collapsed(path)
        found[spelled] = found.get(spelled, 0.0) + math.exp(sum(logp[t, k] for t, k in enumerate(path)))
    return found


def test_paths_collapse_runs_first_and_blanks_then():
    assert collapsed([0, 1, 1, 0, 1, 2, 2, 0]) == (1, 1, 2)
    assert collapsed([0, 0]) == collapsed([]) == ()
    assert collapsed([3]) == (3,)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_what_all_paths_give(seed):
    logp = log_probabilities(5, 4, seed)
    truth = every_sequence(logp)
    found = prefix_beams(logp, 10_000)
    assert len(found) == len(truth)
    for spelled, chance in found:
        assert math.exp(chance) == pytest.approx(truth[spelled], rel=1e-9)
    assert found[0][0] == max(truth, key=lambda s: truth[s])
    assert sum(math.exp(c) for _, c in found) == pytest.approx(1.0)


def test_the_beam_finds_sequences_that_no_single_path_wins():
    """Graves's example: the best path is blank throughout (0.36), the best sequence is one label (0.64)."""
    logp = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(logp) == ()
    assert prefix_beams(logp, 4)[0] == ((1,), pytest.approx(math.log(0.64)))


def test_few_symbols_and_narrow_beams_still_spell_clear_frames():
    codes = [4, 4, 0, 4, 0, 7, 30, 30]
    logp = np.full((len(codes), 40), -8.0)
    logp[np.arange(len(codes)), codes] = -0.01
    assert prefix_beams(logp, 2, symbols=3)[0][0] == greedy(logp) == (4, 4, 7, 30)
    assert prefix_beams(np.zeros((0, 3)), 2) == [((), 0.0)]
    with pytest.raises(ValueError, match="beam of 0"):
        prefix_beams(logp, 0)


def test_a_head_gives_several_frames_a_token():
    head = CtcHead(width=6, outputs=4, upsample=3, dropout=0.0, blank_bias=-2.0)
    x, count = torch.randn(2, 5, 6), torch.tensor([5, 2])
    out = head(x, count)
    assert out.logits.shape == (2, 15, 4)
    assert out.frames.tolist() == [15, 6]
    direct = F.linear(x, head.out.weight, head.out.bias).view(2, 5, 3, 4)
    assert torch.equal(out.logits[:, 4], direct[:, 1, 1])
    assert head.out.bias.view(3, 4)[:, 0].tolist() == [-2.0] * 3
    with pytest.raises(ValueError, match="spell nothing"):
        CtcHead(width=6, outputs=1)


class Single(Encoder):
    """No stages to choose from."""


def encoder(kind: str = "sound-transformer", **options):
    more = {"width": 32, "depth": 2, "heads": 2} if kind == "sound-transformer" else {"stem": 4, "widths": (4, 4), "blocks": (1, 1), "strides": (2, 2)}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build(kind, rate=8000, bands=16, **{**more, **options}).eval()


@pytest.mark.parametrize(("kind", "options"), [("sound-transformer", {"stack": 3}), ("sound-conv", {})])
def test_how_many_tokens_a_sound_has_is_known_from_its_length(kind, options):
    own = encoder(kind, **options)
    ear = listening(own, 8000)
    lengths = np.array([1, 79, 80, 81, 239, 240, 241, 320, 321, 4000, 7777])
    _, count = tokens_of(own, noise(torch.from_numpy(lengths)))
    assert ear.count(lengths).tolist() == count.tolist()
    assert ear.stride == (240 if kind == "sound-transformer" else 320)
    assert ear.width == tokens_of(own, noise(torch.tensor([800])))[0].shape[2]


def test_long_sounds_are_heard_in_stretches_that_join(monkeypatch):
    """Of an encoder that sees its own token alone, stretches give what one go gives; and no token is lost or doubled."""
    own = encoder(depth=1)
    ear = listening(own, 8000)
    view = noise(torch.tensor([40_000, 9_000, 23_456]))

    class Near(torch.nn.Module):
        """The tokens before any block, but for the last of each stretch, whose frames may be cut."""

        def features(self, view):
            return [own.tokenize(view)]

    whole, count = tokens_of(Near(), view)  # type: ignore[arg-type]
    monkeypatch.setattr(room, "LONGEST", 1.6)
    monkeypatch.setattr(room, "OVERLAP", 0.4)
    values, parts = ear(Near(), view)  # type: ignore[arg-type]
    assert parts.tolist() == count.tolist() == ear.count(view["length"].numpy()).tolist()
    for row, n in enumerate(count.tolist()):
        assert torch.allclose(values[row, :n], whole[row, :n], atol=1e-5)


def test_what_has_no_stretches_of_time_is_refused():
    picture = nets.build("vit", width=32, depth=1, heads=2, image_size=16, patch=8)
    with pytest.raises(RequestError, match="no stretches of time"):
        tokens_of(picture, View("image", parts={"pixels": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)}))
    assert Listening(4, 100, 1000).seconds == 0.1


def test_a_mixture_begins_as_the_mean_of_normalised_stages_and_comes_back(tmp_path):
    own, view = encoder(), noise(torch.tensor([4000, 2000]))
    mixed = WeightedStages.around(own, view)
    stages = [F.layer_norm(s.values, (32,)) for s in own.features(view)]
    weight = own.features(view)[0].valid[..., None].float()
    by_hand = ((stages[0] + stages[1]) / 2 * weight).sum(1) / weight.sum(1)
    assert torch.allclose(mixed(view), by_hand, atol=1e-5)
    assert mixed.shares() == [0.5, 0.5]
    with torch.no_grad():
        mixed.mixture.copy_(torch.tensor([0.0, 5.0]))
    assert torch.allclose(mixed.features(view)[-1].values, stages[1], atol=1e-4)
    store.save(tmp_path / "mixed", Kept(mixed))
    again = store.load_encoder(tmp_path / "mixed")
    assert torch.equal(again(view), mixed.eval()(view))
    assert again.shares() == mixed.shares()
    assert mixed.sibling().shares() == [0.5, 0.5]


def test_stages_of_several_widths_stand_side_by_side():
    own, view = encoder("sound-conv"), noise(torch.tensor([4000, 2000]))
    mixed = WeightedStages.around(own, view)
    assert mixed.dim == sum(mixed.widths) == mixed(view).shape[1]
    with pytest.raises(RequestError, match="grids of their own"):
        mixed.features(view)
    with pytest.raises(RequestError, match="one stage alone"):
        WeightedStages.around(Single(), view)
