"""The shared transformer: padding, packing, causality and dropped tokens are exact, judged in float64."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError, Tokens
from selftaught.nets.trunk import Attention, Blocks, Positions, attention_mask, sincos

WIDTH = 12


def blocks(positions="learned", grid=(16,), depth=2, **options) -> Blocks:
    torch.manual_seed(0)
    return Blocks(WIDTH, depth, 3, grid=grid, positions=positions, **options).double().eval()


def values(rows: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, count, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-10)


def test_one_block_is_the_textbook_formula():
    net = blocks("none", depth=1, eps=1e-3)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    x, b = values(2, 5), net.layer[0]

    def norm(x, layer):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * layer.weight + layer.bias

    q, k, v = (norm(x, b.norm1) @ b.attention.qkv.weight.T + b.attention.qkv.bias).split(WIDTH, -1)
    heads = []
    for h in range(3):
        one = slice(4 * h, 4 * h + 4)
        weight = (q[..., one] @ k[..., one].transpose(1, 2) / 2).exp()
        heads.append(weight / weight.sum(-1, keepdim=True) @ v[..., one])
    x = x + torch.cat(heads, -1) @ b.attention.out.weight.T + b.attention.out.bias
    hidden = norm(x, b.norm2) @ b.expand.weight.T + b.expand.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    x = x + hidden @ b.contract.weight.T + b.contract.bias
    assert close(net(Tokens(values(2, 5))).values, norm(x, net.norm))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(0, 5), st.sampled_from(["sincos", "learned"]), st.booleans())
def test_padding_never_changes_a_result(count, extra, positions, causal):
    net, x = blocks(positions), values(2, count)
    plain = net(Tokens(x), causal)
    rubbish = torch.cat([x, 1e3 * values(2, extra, 1)], 1)
    valid = (torch.arange(count + extra) < count).expand(2, -1)
    padded = net(Tokens(rubbish, valid), causal)
    assert close(plain.values, padded.values[:, :count])
    assert close(plain.mean(), padded.mean())


def test_a_row_of_padding_alone_is_finite_and_gives_no_gradient_to_others():
    net, x = blocks(), values(2, 4).requires_grad_()
    valid = torch.tensor([[True, True, False, False], [False] * 4])
    for causal in (False, True):
        out = net(Tokens(x, valid), causal)
        assert out.values.isfinite().all()
        assert out.mean()[1].abs().max() == 0
        (grad,) = torch.autograd.grad(out.mean()[0].sum(), x)
        assert grad.isfinite().all()
        assert grad[0, 2:].abs().max() == 0
        assert grad[1].abs().max() == 0


@pytest.mark.parametrize("positions", ["sincos", "learned", "none"])
@pytest.mark.parametrize("causal", [False, True])
def test_packed_documents_are_as_if_alone(positions, causal):
    net = blocks(positions)
    lengths = [3, 1, 5]
    parts = [values(1, n, seed=n) for n in lengths]
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    packed = net(Tokens(torch.cat(parts, 1), segment=segment), causal)
    alone = torch.cat([net(Tokens(p), causal).values for p in parts], 1)
    assert close(packed.values, alone)


def test_positions_restart_in_every_segment():
    segment = torch.tensor([[4, 4, 4, 7, 7, 4], [0, 1, 2, 2, 2, 2]])
    tokens = Tokens(torch.zeros(2, 6, 2), segment=segment)
    assert tokens.place.tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3]]
    given_positions = torch.arange(6).expand(2, -1)
    assert replace(tokens, position=given_positions).place is given_positions


def test_packing_may_be_longer_than_the_learned_positions():
    net, parts = blocks("learned", grid=(4,)), [values(1, 4, s) for s in range(3)]
    segment = torch.arange(3).repeat_interleave(4)[None]
    packed = net(Tokens(torch.cat(parts, 1), segment=segment, grid=(12,)))
    assert close(packed.values[:, 8:], net(Tokens(parts[2])).values)


def test_the_future_does_not_reach_the_past():
    net, x = blocks(), values(2, 6).requires_grad_()
    out = net(Tokens(x), causal=True).values
    for n in range(6):
        (grad,) = torch.autograd.grad(out[:, n, 0].sum(), x, retain_graph=True)
        reached = grad.abs().amax(-1) > 0
        assert reached.tolist() == [[m <= n for m in range(6)]] * 2


def test_causal_goes_by_position_where_tokens_are_in_another_order():
    net, x = blocks(), values(1, 6)
    plain = net(Tokens(x), causal=True).values
    order = torch.tensor([[4, 2, 0, 5, 1, 3]])
    shuffled = net(Tokens(x).take(order), causal=True).values
    assert close(shuffled, plain[:, order[0]])


def test_prefix_tokens_come_first_and_carry_no_position():
    net, x = blocks(grid=(2, 2)), values(1, 6)
    tokens = Tokens(x, grid=(2, 2), prefix=2)
    added = net.positions(tokens)
    assert added[:, :2].abs().max() == 0
    assert close(added[0, 2:], net.positions.table)
    base = net(tokens, causal=True).values
    changed = net(tokens.with_values(torch.cat([x[:, :2], 9 * x[:, 2:]], 1)), causal=True).values
    assert close(base[:, :2], changed[:, :2])


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["sincos", "learned"]), st.integers(0, 2), st.booleans(), st.data())
def test_dropped_tokens_are_dense_attention_that_excludes_them(positions, prefix, causal, data):
    net, x = blocks(positions, grid=(2, 4)), values(1, 8 + prefix)
    keep = data.draw(st.permutations(range(8)))[: data.draw(st.integers(1, 8))]
    tokens = Tokens(x, grid=(2, 4), prefix=prefix)
    dropped = net(tokens.take(torch.tensor([keep])), causal)
    valid = torch.zeros(1, 8 + prefix, dtype=torch.bool)
    valid[:, :prefix] = True
    valid[:, [k + prefix for k in keep]] = True
    dense = net(replace(tokens, valid=valid), causal)
    assert close(dropped.patches, dense.patches[:, keep])
    assert close(dropped.values[:, :prefix], dense.values[:, :prefix])
    everything = net(tokens.take(torch.arange(8)[None]), causal)
    assert close(everything.values, net(tokens, causal).values)


def test_taken_tokens_remember_the_grid_that_their_positions_count_in():
    net, x = blocks("sincos", grid=(4, 4)), values(2, 4)
    tokens = Tokens(x, grid=(2, 2))
    kept = torch.tensor([[3, 0], [1, 2]])
    assert tokens.take(kept).extent == (2, 2)
    assert tokens.take(kept).take(torch.tensor([[1], [0]])).extent == (2, 2)
    added = net.positions(tokens.take(kept))
    assert close(added, net.positions(tokens)[0][kept])


def test_content_leaves_marks_out_of_the_mean_also_after_take():
    x = torch.tensor([[[9.0], [1.0], [3.0], [7.0]]])
    content = torch.tensor([[False, True, True, True]])
    valid = torch.tensor([[True, True, True, False]])
    assert Tokens(x, valid, content=content).mean().tolist() == [[2.0]]
    assert Tokens(x, content=content).take(torch.tensor([[3, 0]])).mean().tolist() == [[7.0]]


def test_sincos_is_the_paper_s_formula_and_tells_places_apart():
    table = sincos(torch.arange(50)[:, None], 8)
    for p in (0, 1, 49):
        for i in range(4):
            angle = p / 10000 ** (i / 4)
            assert table[p, i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[p, 4 + i] == pytest.approx(math.cos(angle), abs=1e-12)
    grid = Positions(12, (5, 7)).table
    assert torch.pdist(grid).min() > 0.05
    assert sincos(torch.zeros(1, 2), 10).shape == (1, 10)


def test_other_grids_lie_over_the_same_picture():
    fixed, learned = Positions(12, (4, 4)), Positions(12, (4, 4), "learned")
    half = fixed.over((2, 2)).view(2, 2, 12)
    centre = sincos(torch.tensor([[0.5, 0.5]]), 12)[0].float()
    assert torch.allclose(half[0, 0], centre, atol=1e-6)
    with torch.no_grad():
        learned.table.copy_(torch.arange(16.0)[:, None].expand(-1, 12))
        up = learned.over((8, 8)).view(8, 8, 12)
        wanted = F.interpolate(torch.arange(16.0).view(1, 1, 4, 4), (8, 8), mode="bicubic", align_corners=False)
    assert torch.allclose(up[..., 5], wanted[0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="axes"):
        fixed.over((3,))


def test_sequences_beyond_the_table():
    fixed, learned = Positions(12, (4,)), Positions(12, (4,), "learned")
    assert torch.allclose(fixed.over((9,))[:4], fixed.table)
    assert torch.allclose(fixed.over((9,)), Positions(12, (9,)).table)
    with pytest.raises(RequestError, match="5 tokens is longer than the 4"):
        learned(Tokens(torch.zeros(1, 5, 12)))


def test_no_mask_is_made_where_all_see_all():
    assert attention_mask(Tokens(torch.zeros(2, 3, 4))) is None


def test_stages_end_in_forward_and_have_one_scale():
    net, tokens = blocks(depth=3), Tokens(values(2, 5))
    stages = net.stages(tokens)
    assert len(stages) == 3
    assert close(stages[-1].values, net(tokens).values)
    assert all(close(s.values.mean(-1), torch.zeros(2, 5, dtype=torch.float64)) for s in stages)


def test_bfloat16_keeps_the_softmax_in_fp32():
    net = Attention(8, 1).bfloat16()
    with torch.no_grad():
        net.qkv.weight[16:], net.qkv.bias[16:] = 0, 1
        net.out.weight.copy_(torch.eye(8))
        net.out.bias.zero_()
        out = net(torch.randn(1, 4096, 8, dtype=torch.bfloat16), None)
    assert (out - 1).abs().max() < 0.01  # 4096 weights that sum to one


def test_impossible_shapes_are_refused():
    with pytest.raises(RequestError, match="width 12, depth 2 and 5 heads"):
        Blocks(12, 2, 5, grid=(4,))
    with pytest.raises(RequestError, match="depth 0"):
        Blocks(12, 0, 3, grid=(4,))


def test_layers_hold_every_parameter_once_from_input_to_output():
    net = blocks()
    groups = net.layers()
    assert sorted(id(p) for g in groups for p in g) == sorted(id(p) for p in net.parameters())
    assert len(groups) == 4
    assert groups[0][0] is net.positions.table
    assert groups[-1][0] is net.norm.weight


def test_dropout_makes_two_passes_differ_only_in_training():
    net, tokens = blocks(dropout=0.3), Tokens(values(2, 5))
    assert close(net(tokens).values, net(tokens).values)
    net.train()
    assert not close(net(tokens).values, net(tokens).values)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["whole", "padded", "packed"])
def test_reading_some_places_is_reading_all_and_taking_them(causal, kind):
    torch.manual_seed(0)
    blocks = Blocks(16, 3, 2, grid=(9,), positions="learned").double()
    values = torch.randn(4, 9, 16, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(9) < torch.tensor([[9], [7], [4], [1]]) if kind == "padded" else None
    segment = torch.tensor([1, 1, 1, 2, 2, 2, 3, 3, 0]).expand(4, -1) if kind == "packed" else None
    tokens = Tokens(values, valid, segment=segment, grid=(9,))
    chosen = torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    chosen[3] = False
    some, there = blocks.read(tokens, chosen, causal)
    whole = blocks(tokens, causal).values
    assert torch.equal(there.sum(1), chosen.sum(1))
    torch.testing.assert_close(some[there], whole[chosen], rtol=0, atol=1e-13)
    weight = torch.randn(int(chosen.sum()), 16, dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad((v * weight).sum(), [values, *blocks.parameters()]) for v in (some[there], whole[chosen])
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_reading_no_place_gives_none():
    blocks = Blocks(16, 1, 2, grid=(5,))
    _, there = blocks.read(Tokens(torch.randn(2, 5, 16), grid=(5,)), torch.zeros(2, 5, dtype=torch.bool))
    assert not there.any()
