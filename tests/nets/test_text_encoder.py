"""Text transformer: what transformers computes with the same parameters, padding, packing, causality."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError, View
from selftaught.nets.text import TextTransformer, of_like_length


def encoder(**options) -> TextTransformer:
    torch.manual_seed(0)
    net = TextTransformer(**{"vocabulary": 40, "context": 12, "width": 24, "depth": 2, "heads": 2, **options})
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
    return net.double().eval()


def view(rows: list[list[int]], extra: int = 0, **parts) -> View:
    longest = max(map(len, rows)) + extra
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
    valid = torch.tensor([[i < len(r) for i in range(longest)] for r in rows])
    return View("text", parts={"ids": ids, "valid": valid, **parts})


ROWS = [[1, 7, 8, 9, 30, 2], [1, 11, 2], [1, 5, 6, 7, 8, 9, 10, 11, 12]]


def parts(block):
    """(name, module) of the layers that both architectures hold under other names."""
    return {"norm1": block.norm1, "out": block.attention.out, "norm2": block.norm2, "expand": block.expand, "contract": block.contract}  # fmt: skip


def test_bidirectional_it_is_transformers_xlm_roberta_xl():
    from transformers import XLMRobertaXLConfig, XLMRobertaXLModel

    net, batch = encoder(), view(ROWS)
    config = XLMRobertaXLConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=13, pad_token_id=0, type_vocab_size=1, layer_norm_eps=net.eps, hidden_act="gelu",
        attn_implementation="eager",
    )  # fmt: skip
    theirs = XLMRobertaXLModel(config, add_pooling_layer=False).double().eval()
    state = {
        "embeddings.word_embeddings.weight": net.embedding.weight,
        "embeddings.position_embeddings.weight": F.pad(net.blocks.positions.table, (0, 0, 1, 0)),
        "embeddings.token_type_embeddings.weight": torch.zeros(1, 24),
    }
    names = {"norm1": "attention.self_attn_layer_norm", "out": "attention.output.dense", "norm2": "LayerNorm", "expand": "intermediate.dense", "contract": "output.dense"}  # fmt: skip
    for end in ("weight", "bias"):
        state[f"encoder.LayerNorm.{end}"] = getattr(net.blocks.norm, end)
        for i, block in enumerate(net.blocks.layer):
            thirds = getattr(block.attention.qkv, end).chunk(3)
            state |= {f"encoder.layer.{i}.attention.self.{n}.{end}": t for n, t in zip(("query", "key", "value"), thirds, strict=True)}  # fmt: skip
            state |= {f"encoder.layer.{i}.{names[k]}.{end}": getattr(m, end) for k, m in parts(block).items()}
    theirs.load_state_dict(state)
    wanted = theirs(batch["ids"], attention_mask=batch["valid"].long()).last_hidden_state
    got = net.trunk(net.tokenize(batch)).values
    assert torch.allclose(got[batch["valid"]], wanted[batch["valid"]], atol=1e-9)


def test_causal_it_is_transformers_gpt2():
    from transformers import GPT2Config, GPT2Model

    net, batch = encoder(), view(ROWS)
    config = GPT2Config(
        vocab_size=40, n_positions=12, n_embd=24, n_layer=2, n_head=2, activation_function="gelu",
        layer_norm_epsilon=net.eps, attn_implementation="eager", bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    theirs = GPT2Model(config).double().eval()
    state = {"wte.weight": net.embedding.weight, "wpe.weight": net.blocks.positions.table}
    state |= {f"ln_f.{end}": getattr(net.blocks.norm, end) for end in ("weight", "bias")}
    names = {"norm1": "ln_1", "out": "attn.c_proj", "norm2": "ln_2", "expand": "mlp.c_fc", "contract": "mlp.c_proj"}
    for i, block in enumerate(net.blocks.layer):
        for key, module in {**parts(block), "qkv": block.attention.qkv}.items():
            name, matrix = names.get(key, "attn.c_attn"), key not in ("norm1", "norm2")
            state[f"h.{i}.{name}.weight"] = module.weight.T if matrix else module.weight
            state[f"h.{i}.{name}.bias"] = module.bias
    theirs.load_state_dict(state)
    wanted = theirs(batch["ids"], attention_mask=batch["valid"].long()).last_hidden_state
    got = net.trunk(net.tokenize(batch), causal=True).values
    assert torch.allclose(got[batch["valid"]], wanted[batch["valid"]], atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(4, 39), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(0, 4))
def test_a_row_is_the_same_whatever_stands_beside_it(rows, extra):
    net = encoder()
    together = net(view(rows, extra))
    alone = torch.cat([net(view([r])) for r in rows])
    assert torch.allclose(together, alone, atol=1e-10)


def test_marks_and_padding_stay_out_of_the_mean():
    net, batch = encoder(), view(ROWS)
    out = net.trunk(net.tokenize(batch)).values
    wanted = torch.stack([out[i, [j for j, v in enumerate(r) if v >= 4]].mean(0) for i, r in enumerate(ROWS)])
    assert torch.allclose(net(batch), wanted, atol=1e-12)
    assert net(view([[1, 2]])).abs().max() == 0


def test_packed_rows_are_as_if_alone():
    net = encoder(context=9)
    ids = torch.tensor([[i for r in ROWS for i in r]])
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor([len(r) for r in ROWS]))[None]
    for causal in (False, True):
        packed = net.trunk(net.tokenize(View("text", parts={"ids": ids, "segment": segment})), causal).values[0]
        alone = torch.cat([net.trunk(net.tokenize(view([r])), causal).values[0] for r in ROWS])
        assert torch.allclose(packed, alone, atol=1e-10)


def test_the_second_copy_of_a_document_in_a_pack_cannot_read_the_first():
    net = encoder()
    doc = [1, 5, 6, 7, 2]
    segment = torch.tensor([[0] * 5 + [1] * 5])
    one, other = (
        net.trunk(net.tokenize(View("text", parts={"ids": torch.tensor([first + doc]), "segment": segment})), True)
        for first in (doc, [1, 30, 31, 32, 2])
    )
    assert torch.equal(one.values[:, 5:], other.values[:, 5:])


def test_future_ids_do_not_change_the_past():
    net = encoder()
    a, b = (net.trunk(net.tokenize(view([[1, 5, 6, last, 9]])), causal=True).values for last in (7, 30))
    assert torch.allclose(a[:, :3], b[:, :3], atol=1e-12)
    assert not torch.allclose(a[:, 3:], b[:, 3:], atol=1e-3)


def test_an_encoder_that_was_trained_causally_stays_so():
    net, batch = encoder(), view(ROWS)
    wanted = net.pool(net.trunk(net.tokenize(batch), causal=True))
    assert not torch.allclose(net(batch), wanted, atol=1e-3)
    net.causal = True  # as next-token does
    assert torch.allclose(net(batch), wanted, atol=1e-12)
    assert torch.allclose(net.pool(net.features(batch)[-1]), wanted, atol=1e-12)
    assert net.config()["options"]["causal"] is True


def test_stages_config_and_layers():
    net, batch = encoder(depth=3), view(ROWS)
    stages = net.features(batch)
    assert len(stages) == 3
    assert torch.allclose(net.pool(stages[-1]), net(batch), atol=1e-12)
    again = TextTransformer(**net.config()["options"]).double().eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(batch), net(batch))
    assert again.embedding.weight.shape == (40, 24)
    assert sorted(id(p) for g in net.layers() for p in g) == sorted(id(p) for p in net.parameters())


def test_longer_than_the_context_is_refused():
    with pytest.raises(RequestError, match="13 tokens is longer than the 12"):
        encoder()(view([[5] * 13]))


def padded(lengths: list[int], seed: int = 0) -> View:
    """A view of rows of these lengths, padded to the longest and three places more."""
    valid = torch.arange(max(lengths) + 3) < torch.tensor(lengths)[:, None]
    ids = torch.randint(4, 60, valid.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(~valid, 0)
    return View("text", parts={"ids": ids, "valid": valid})


@pytest.mark.parametrize("lengths", [[30] * 40, [3, 4] * 20 + [60], [0, 1, 2, 40] * 16, [5] * 31])
def test_rows_of_like_length_go_through_together_and_come_back_in_their_order(lengths):
    torch.manual_seed(0)
    encoder = TextTransformer(vocabulary=60, context=64, width=16, depth=2, heads=2).double()
    view = padded(lengths)
    together = encoder(view)
    alone = torch.cat([encoder(view.take(torch.tensor([k]))) for k in range(len(lengths))])
    assert torch.allclose(together, alone, atol=1e-10)
    grads = []
    for out in (together, alone):
        encoder.zero_grad()
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        grads.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(*grads, strict=True))


def test_groups_hold_every_row_once_and_spare_padding():
    lengths = [3] * 60 + [64] * 4
    groups = of_like_length(padded(lengths))
    assert sorted(torch.cat([rows for rows, _ in groups]).tolist()) == list(range(64))
    assert all(longest == max(lengths[r] for r in rows.tolist()) for rows, longest in groups)
    assert sum(len(rows) * longest for rows, longest in groups) < 64 * 67 / 3
    assert len(of_like_length(padded([30] * 64))) == 1
