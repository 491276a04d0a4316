"""TSDAE: the text is written again from one vector and nothing else; the loss is that of loops in float64."""

import math

import pytest
import torch

from selftaught.core import Batch, Draw, RequestError
from selftaught.methods.tsdae import TSDAE
from selftaught.nets import store
from selftaught.nets.vector_decoder import VectorDecoder
from selftaught.views.text import deleted

from .small import Texts, batch_of, gradients, made, texts, words


class Deletable(Texts):
    offers = Texts.offers | {"delete"}

    def delete(self, view, share, draw):
        ids, valid = deleted(view["ids"], view["valid"], share, draw)
        return view.with_parts(ids=ids, valid=valid)


def method_of(**options):
    return made(TSDAE(**options), words(), Deletable())


def test_the_loss_is_the_mean_over_tokens_by_loops():
    method, view = method_of(), texts((7, 4, 9, 3))
    batch = batch_of(method, view, Deletable())
    vector = method.encoder(method.modality.delete(view, 0.6, batch.draw()))
    nats = []
    for row, ids in enumerate(view["ids"]):
        length = int(view["valid"][row].sum())
        for t in range(
            1, length
        ):  # one prefix at a time, alone in its batch: nothing of the future, nothing of the padding
            hidden = method.decoder(ids[None, :t], vector[row : row + 1])[0, -1]
            logits = hidden @ method.encoder.embedding.weight.T + method.decoder.head.bias
            nats.append(math.log(sum(math.exp(float(z)) for z in logits.detach())) - float(logits[ids[t]].detach()))
    outputs = method(batch)
    assert float(outputs["loss"].detach()) == pytest.approx(sum(nats) / len(nats), abs=1e-10)
    assert int(method.count(batch)) == len(nats) == 6 + 3 + 8 + 2


def test_the_decoder_sees_one_vector_and_nothing_else_of_the_encoder():
    """Trap: whatever the encoder read, two texts with one vector are one to the decoder."""
    method, view = method_of(), texts((7, 4, 9, 3))
    batch = batch_of(method, view, Deletable())
    fixed = torch.randn(4, 16, dtype=torch.float64)
    seen = []

    class Fixed(torch.nn.Module):
        def forward(self, corrupted):
            seen.append(corrupted)
            return fixed

    method.encoder = Fixed()
    first = method(batch)["loss"]
    method.delete = 0.0
    second = method(batch)["loss"]
    assert seen[0]["ids"].shape != seen[1]["ids"].shape
    assert torch.equal(first, second)
    method.encoder = Fixed()
    fixed = fixed + 1
    assert not torch.equal(method(batch)["loss"], first), "and the vector is read"


def test_cross_attention_to_one_vector_is_an_added_linear_map():
    torch.manual_seed(0)
    cross = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    tokens, vector = torch.randn(3, 5, 16, dtype=torch.float64), torch.randn(3, 16, dtype=torch.float64)
    wanted, _ = cross(tokens, vector[:, None], vector[:, None])
    value, bias = cross.in_proj_weight[32:], cross.in_proj_bias[32:]
    ours = (vector @ value.T + bias) @ cross.out_proj.weight.T + cross.out_proj.bias
    torch.testing.assert_close(wanted, ours[:, None].expand_as(wanted), rtol=0, atol=1e-12)


def test_no_token_sees_its_future():
    torch.manual_seed(0)
    decoder = VectorDecoder(16, 11, width=16, depth=2, heads=2).double()
    ids, vector = torch.randint(4, 11, (2, 8)), torch.randn(2, 16, dtype=torch.float64)
    changed = ids.clone()
    changed[:, 5] = 4 + (ids[:, 5] - 3) % 7
    moved = (decoder(ids, vector) - decoder(changed, vector)).abs().amax((0, 2)) > 0
    assert moved.tolist() == [False] * 5 + [True] * 3


def test_six_tenths_of_the_tokens_go_and_marks_and_one_token_stay():
    view = texts((30,) * 400 + (3,), width=30)
    ids, valid = deleted(view["ids"], view["valid"], 0.6, Draw(torch.arange(401)))
    kept = (valid & (ids >= 4)).sum(1)[:400]
    assert float(kept.double().mean()) == pytest.approx(0.4 * 28, abs=0.3)
    assert torch.equal(ids[:, 0], torch.ones(401, dtype=torch.int64))
    assert all(int(row[v][-1]) == 2 for row, v in zip(ids, valid, strict=True))
    assert int((valid[400] & (ids[400] >= 4)).sum()) == 1
    for row, left, inside in zip(view["ids"], ids, valid, strict=True):  # in their order
        place = iter(row.tolist())
        assert all(token in place for token in left[inside].tolist())
    alone, _ = deleted(view["ids"][7:8, :30], view["valid"][7:8], 0.6, Draw(torch.tensor([7])))
    assert torch.equal(alone[0], ids[7, : alone.shape[1]]), "a row's deletions depend on that row alone"


def test_the_embedding_is_shared_where_widths_agree(tmp_path):
    method = method_of()
    assert method.decoder.embedding.weight is method.encoder.embedding.weight is method.decoder.head.weight
    grads, _ = gradients(method, batch_of(method, texts((7, 4)), Deletable()))
    assert "encoder.embedding.weight" in grads
    other = method_of(width=8)
    assert other.decoder.embedding.weight.shape == (11, 8)
    assert other.keep().ties == {}
    for name, one in (("same", method), ("narrow", other)):
        store.save(tmp_path / name, one.float().keep())
        back = store.load(tmp_path / name)
        part = back.parts["decoder"]
        assert part.head.weight is part.embedding.weight
        assert (part.embedding.weight is back.encoder.embedding.weight) == (name == "same")
        vector, ids = torch.randn(2, 16), torch.randint(4, 11, (2, 5))
        assert torch.equal(part(ids, vector), one.decoder(ids, vector))


def test_what_makes_no_sense_is_refused():
    for wrong in ({"delete": 1.0}, {"delete": -0.1}, {"depth": 0}):
        with pytest.raises(RequestError):
            method_of(**wrong)


def test_rows_of_marks_alone_are_survived():
    method = method_of()
    view = texts((2, 7))
    assert torch.isfinite(method(Batch([view], torch.arange(2)))["loss"])
