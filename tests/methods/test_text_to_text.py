"""T5 and BART: objectives against loops in float64 and against transformers' own loss on the same weights."""

import math
from dataclasses import replace

import pytest
import torch

from selftaught.core import RequestError, View
from selftaught.export.seq2seq import seq2seq
from selftaught.views.infilling import closed_up, cut_out

from ..conformance.cases import Case, toy


def made(name, **given):
    method, batch = Case(name, "text", tuple(given.items())).make()
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return method, batch


def rows_of(method, batch):
    """[(ids that are read, ids that are written)] of every row, without padding."""
    view = batch.views[0]
    if hasattr(method, "sentinels"):
        _, _, spans = method._spans(batch)
        read, valid = closed_up(view["ids"], view["valid"], spans, method.decoder.vocabulary)
        written, there = cut_out(view["ids"], spans, method.decoder.vocabulary)
    else:
        spoilt, _ = method._spoilt(view, batch)
        (read, valid), (written, there) = (spoilt["ids"], spoilt["valid"]), (view["ids"], view["valid"])
    return [(read[r][valid[r]], written[r][there[r]]) for r in range(len(view))]


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_loss_is_the_mean_of_each_rows_tokens_one_by_one(name):
    """Every row by itself, every token by the softmax written out, summed over all and divided once."""
    method, batch = made(name)
    total, count = 0.0, 0
    for read, written in rows_of(method, batch):
        view = View("text", parts={"ids": read[None], "valid": torch.ones(1, len(read)).bool()})
        memory = method.encoder.trunk(method.decoder.tokenize(method.encoder, view))
        logits = method.decoder.logits(method.decoder(written[None, :-1], memory))[0].tolist()
        for scores, wanted in zip(logits, written[1:].tolist(), strict=True):
            total += math.log(sum(map(math.exp, scores))) - scores[wanted]
            count += 1
    assert method(batch)["loss"].item() == pytest.approx(total / count, abs=1e-9)
    assert int(method.count(batch)) == count


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_transformers_gives_the_same_loss_on_the_same_weights(name):
    method, batch = made(name)
    method.float().eval()
    theirs = seq2seq(method.encoder, method.decoder).eval()
    rows = rows_of(method, batch)
    padded = lambda column, fill: torch.nn.utils.rnn.pad_sequence([r[column] for r in rows], True, fill)  # noqa: E731
    read, written = padded(0, 0), padded(1, 0)
    labels = padded(1, -100)[:, 1:].contiguous()
    out = theirs(input_ids=read, attention_mask=(read > 0).long(), decoder_input_ids=written[:, :-1], labels=labels)
    torch.testing.assert_close(out.loss, method(batch)["loss"], rtol=0, atol=2e-5)


def test_hidden_is_the_share_that_went():
    method, batch = made("t5", share=0.4)
    _view, able, spans = method._spans(batch)
    assert method(batch)["hidden"].item() == pytest.approx(float((spans > 0).sum() / able.sum()))
    assert 0.35 < method(batch)["hidden"].item() < 0.45
    assert (spans.max(1).values <= method.sentinels).all()


def test_few_sentinels_are_never_exceeded():
    method, batch = made("t5", share=0.5, span=1.0, sentinels=2)
    for read, written in rows_of(method, batch):
        for ids in (read, written):
            assert (ids < method.decoder.outputs).all()
            assert (ids >= method.decoder.vocabulary).sum() <= 2


def test_what_is_unknown_is_not_predicted():
    method, batch = made("t5")
    plain = int(method.count(batch))
    _, written = max(rows_of(method, batch), key=lambda row: len(row[1]))
    method.specials = int(written[written < method.decoder.vocabulary].max()) + 1
    assert int(method.count(batch)) < plain
    assert method(batch)["loss"].isfinite()


def test_sentences_of_the_real_tokenizer():
    modality, _ = toy("text", 8)
    method, _ = made("bart")
    ids = torch.tensor([modality.bpe.encode("He paid 3.5 for it. Why? Nobody knows.", add_special_tokens=False).ids])
    over = method.ends[ids][0][:-1] & method.begins[ids][0][1:]
    pieces = modality.words()
    text, cuts = "", []
    for i, cut in zip(ids[0].tolist(), [*over.tolist(), False]):
        text += pieces[i]
        if cut:
            cuts.append(text)
    assert cuts == ["He paid 3.5 for it.", "He paid 3.5 for it. Why?"]


def test_nonsense_is_refused():
    for name, given in (
        ("t5", {"share": 0.0}),
        ("t5", {"sentinels": 0}),
        ("bart", {"share": 1.0}),
        ("bart", {"span": 0.0}),
    ):
        with pytest.raises(RequestError, match="Give a share"):
            Case(name, "text", tuple(given.items())).make()


def test_another_step_hides_other_tokens():
    method, batch = made("t5")
    assert not torch.equal(method._spans(batch)[2], method._spans(replace(batch, step=batch.step + 1))[2])
