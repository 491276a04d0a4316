"""The text decoder and what writes with it: one step at a time equals all at once, beams equal brute force and transformers."""

import itertools
import math

import pytest
import torch

from selftaught.core import Kept, RequestError, View
from selftaught.export import seq2seq as export
from selftaught.nets import store
from selftaught.nets.search import search
from selftaught.nets.seq2seq import EncoderDecoder, LeftToRight
from selftaught.nets.text import TextTransformer
from selftaught.nets.text_decoder import TextDecoder

BEGIN, END = 1, 2


def network(sentinels=0, vocabulary=23, context=14, causal=False, scale=0.3, width=16):
    """An encoder and a decoder with weights far from those of a fresh network, in float64."""
    torch.manual_seed(3)
    encoder = TextTransformer(
        vocabulary=vocabulary, context=context, width=width, depth=2, heads=2, causal=causal
    ).double()
    made = (
        LeftToRight.beside(encoder, None, 5).double()
        if causal
        else EncoderDecoder(encoder, TextDecoder.beside(encoder, depth=1, sentinels=sentinels).double())
    )
    if not causal:
        made.decoder.tie(encoder)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(scale * torch.randn_like(p))
    return made.eval()


def texts(lengths, vocabulary=23, seed=0, marks=True):
    """A view of rows of these lengths, BEGIN before and END behind."""
    draw = torch.Generator().manual_seed(seed)
    width = max(lengths) + 2
    ids = torch.randint(4, vocabulary, (len(lengths), width), generator=draw)
    place, length = torch.arange(width), torch.tensor(lengths)[:, None]
    ids[:, 0] = BEGIN
    ids = torch.where(place == length + 1, END, ids)
    valid = place < length + 2
    return View("text", parts={"ids": ids.masked_fill(~valid, 0), "valid": valid})


@pytest.mark.parametrize("causal", [False, True])
def test_one_token_after_another_equals_all_at_once_whatever_the_padding_and_the_order_of_beams(causal):
    model, source, target = network(causal=causal), texts([6, 2, 4], seed=1), texts([4, 4, 4], seed=2)
    hidden, wanted = model.hidden(source, target)
    whole = model.logits(hidden).view(3, 5, -1)
    assert torch.equal(wanted.view(3, 5), target["ids"][:, 1:])
    writing = model.write(source)
    said = writing.begin()
    torch.testing.assert_close(said[:, 0], whole[:, 0], rtol=0, atol=1e-10)
    rows, double = torch.arange(3), torch.zeros(3, 2, dtype=torch.int64)
    for k in range(4):
        writing.take(rows, double if k == 0 else torch.tensor([[1, 0]]).expand(len(rows), 2))
        token = target["ids"][rows, 1 + k]
        said = writing.step(token[:, None].expand(-1, 2))
        torch.testing.assert_close(said, whole[rows, None, 1 + k].expand(-1, 2, -1), rtol=0, atol=1e-10)
        if k == 1:  # a row is done
            rows = torch.tensor([0, 2])
            writing.take(rows, torch.tensor([[0, 1], [1, 0]]))
            rows_left = rows
            writing_rows = torch.arange(2)
            for j in (2, 3):
                said = writing.step(target["ids"][rows_left, 1 + j][:, None].expand(-1, 2))
                torch.testing.assert_close(said, whole[rows_left, None, 1 + j].expand(-1, 2, -1), rtol=0, atol=1e-10)
                writing.take(writing_rows, torch.zeros(2, 2, dtype=torch.int64))
            break


def every_answer(model, source, longest, vocabulary, penalty):
    """{ids: score} of all answers of one source, each scored by the whole network at once."""
    found = {}
    ordinary = range(4, vocabulary)
    for length in range(longest + 1):
        for ids in itertools.product(ordinary, repeat=length):
            ended = length < longest
            row = [BEGIN, *ids, *([END] if ended else [])]
            target = View(
                "text", parts={"ids": torch.tensor([row]), "valid": torch.ones(1, len(row), dtype=torch.bool)}
            )
            hidden, wanted = model.hidden(source, target)
            said = model.logits(hidden).log_softmax(-1)
            total = sum(said[i, w].item() for i, w in enumerate(wanted.tolist()))
            found[ids] = total / (len(row) - 1) ** penalty
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_enough_beams_find_the_best_of_all_answers(causal, penalty):
    model = network(vocabulary=7, causal=causal)
    for seed in range(3):
        source = texts([3], vocabulary=7, seed=seed)
        every = every_answer(model, source, 3, 7, penalty)
        (best,) = search(model.write(source), longest=3, beams=40, length_penalty=penalty)
        assert tuple(best.ids) == max(every, key=every.get)
        assert best.score == pytest.approx(max(every.values()), abs=1e-9)


def test_greedy_takes_the_likeliest_token_each_time_and_stops_at_the_end_mark():
    model, source = network(scale=0.5), texts([5, 3, 1, 6], seed=4)
    for row, one in enumerate(search(model.write(source), longest=9)):
        ids, total = [BEGIN], 0.0
        while len(ids) < 10:
            target = View(
                "text", parts={"ids": torch.tensor([[*ids, END]]), "valid": torch.ones(1, len(ids) + 1).bool()}
            )
            hidden, _ = model.hidden(source.take(torch.tensor([row])), target)
            said = model.logits(hidden[-1]).log_softmax(-1)
            said[[0, 1, 3]] = -math.inf
            total += said.max().item()
            if said.argmax() == END:
                break
            ids.append(int(said.argmax()))
        assert one.ids == ids[1:]
        assert one.nats == pytest.approx(total, abs=1e-9)


def test_rows_are_written_alike_alone_and_together():
    model, source = network(scale=0.5), texts([6, 2, 4, 1], seed=5)
    together = search(model.write(source), longest=8, beams=3)
    for row, one in enumerate(together):
        length = int(source["valid"][row].sum())
        alone = source.take(torch.tensor([row])).with_parts(
            ids=source["ids"][row : row + 1, :length], valid=source["valid"][row : row + 1, :length]
        )
        assert search(model.write(alone), longest=8, beams=3)[0].ids == one.ids


@pytest.fixture(scope="module")
def exported():
    model = network(sentinels=3, scale=0.1).float()
    return model, export.seq2seq(model.encoder, model.decoder).eval()


@torch.no_grad()
def test_transformers_blenderbot_gives_the_same_logits_and_loss(exported):
    model, theirs = exported
    source, target = texts([6, 2, 4], seed=1), texts([5, 7, 3], seed=2)
    source["ids"][0, 2], target["ids"][1, 3] = 23, 25  # sentinels
    read = model.encoder.trunk(model.decoder.tokenize(model.encoder, source))
    ids, there = target["ids"], target["valid"]
    ours = model.decoder.logits(model.decoder(ids[:, :-1], read))
    labels = ids[:, 1:].masked_fill(~there[:, 1:], -100)
    out = theirs(
        input_ids=source["ids"], attention_mask=source["valid"].long(), decoder_input_ids=ids[:, :-1], labels=labels
    )
    torch.testing.assert_close(out.logits[there[:, 1:]], ours[there[:, 1:]], rtol=0, atol=2e-5)
    own = torch.nn.functional.cross_entropy(ours[there[:, 1:]], ids[:, 1:][there[:, 1:]])
    torch.testing.assert_close(out.loss, own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_transformers_generate_writes_the_same(exported, beams):
    model, theirs = exported
    source = texts([6, 2, 4, 5, 3, 1], seed=6)
    source["ids"].masked_fill_(source["ids"] == 0, 0)
    ours = search(model.write(source), longest=10, beams=beams, vocabulary=23)
    out = theirs.generate(
        input_ids=source["ids"], attention_mask=source["valid"].long(), num_beams=beams, do_sample=False, max_new_tokens=10,
        suppress_tokens=[0, 1, 3, 23, 24, 25],
    )  # fmt: skip
    for one, row in zip(ours, out.tolist(), strict=True):
        assert one.ids == [i for i in row if i not in (0, BEGIN, END)]


def test_a_decoder_comes_back_from_a_folder_still_tied(tmp_path):
    model = network(sentinels=3).float()
    kept = model.keep()
    loaded = store.load(store.save(tmp_path / "encoder", kept))
    assert loaded.parts["decoder"].embedding.weight is loaded.encoder.embedding.weight
    state = loaded.parts["decoder"].state_dict()
    assert all(torch.equal(state[k], v) for k, v in model.decoder.state_dict().items())
    lean = loaded.parts["decoder"].without_sentinels(loaded.encoder)
    assert lean.outputs == 23
    assert lean.embedding.weight is loaded.encoder.embedding.weight


def test_what_cannot_stand_beside_a_decoder_is_refused():
    causal = TextTransformer(vocabulary=9, context=8, width=8, depth=1, heads=2, causal=True)
    with pytest.raises(RequestError, match="reads from left to right"):
        TextDecoder.beside(causal)
    with pytest.raises(RequestError, match="cannot be built"):
        TextDecoder(9, 8, depth=0, heads=2, context=8)
    model = network()
    with pytest.raises(RequestError, match="15 tokens are more than the 14"):
        model.decoder(torch.ones(1, 15, dtype=torch.int64), model.encoder.tokenize(texts([2])))
    with pytest.raises(RequestError, match="nothing to read"):
        LeftToRight(causal, torch.nn.Linear(8, 9), 7)
    assert Kept(causal).parts == {}
