import pytest
import torch
import torch.nn.functional as F

from selftaught import nets
from selftaught.core import ModelError
from selftaught.nets.heads import MLP, Linear, Prototypes


def test_mlp_layers_and_biases():
    kinds = lambda net: [type(m).__name__ for m in net]  # noqa: E731
    assert kinds(MLP((8, 16, 4))) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(MLP((8, 16, 4), norm="layer", last=True)) == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm"]
    assert kinds(MLP((8, 16, 16, 4), norm="none")) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    net = MLP((8, 16, 4), last=True)
    assert net[0].bias is None
    assert net[3].bias is None
    assert net[4].affine is False
    assert MLP((8, 16, 4))[3].bias is not None


def test_mlp_equals_the_formula():
    torch.manual_seed(0)
    net, x = MLP((5, 7, 3), last=True).double(), torch.randn(11, 5, dtype=torch.float64)

    def standardised(h):
        return (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()

    hidden = (standardised(x @ net[0].weight.T) * net[1].weight + net[1].bias).clamp_min(0)
    wanted = standardised(hidden @ net[3].weight.T)
    assert (net(x) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("sizes", [(), (4,), (4, 0)])
def test_mlp_refuses_sizes(sizes):
    with pytest.raises(ValueError, match="sizes"):
        MLP(sizes)


def test_mlp_refuses_a_last_norm_of_none():
    with pytest.raises(ValueError, match="normalisation"):
        MLP((4, 4), norm="none", last=True)


def test_prototypes_are_cosines_whatever_the_lengths():
    torch.manual_seed(0)
    head, x = Prototypes(6, 9), torch.randn(4, 6)
    wanted = F.cosine_similarity(x[:, None].double(), head.weight[None].double(), dim=-1)
    assert (head(x).double() - wanted).abs().max() < 1e-6
    assert (head(100 * x) - head(x)).abs().max() < 1e-6
    with torch.no_grad():
        head.weight.mul_(3)
    assert (head(x).double() - wanted).abs().max() < 1e-6


def test_prototypes_stay_in_fp32_under_autocast():
    head, x = Prototypes(6, 9), torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(x), head(x.float()))
        assert head(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("head", [MLP((4, 8, 2), norm="layer"), Prototypes(4, 3), Linear(4, 5, bias=False)])
def test_heads_are_built_again_from_their_config(head):
    config = head.config()
    again = nets.part(config["kind"], config["options"])
    assert type(again) is type(head)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in head.state_dict().items()}


def test_unknown_parts_are_refused():
    with pytest.raises(ModelError, match="'system'"):
        nets.part("system", {})
    with pytest.raises(ModelError, match="options"):
        nets.part("mlp", {"sizes": [4]})
