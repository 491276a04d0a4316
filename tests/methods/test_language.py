"""BERT, ELECTRA and the hybrid: objectives against loops and against transformers' own losses, and what each may see."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from selftaught.core import RequestError, View
from selftaught.export import to_transformers
from selftaught.methods import electra as electra_file
from selftaught.methods.bert import BERT
from selftaught.methods.electra import ELECTRA
from selftaught.methods.hybrid import Hybrid
from selftaught.methods.masked_token import MaskedToken
from selftaught.methods.next_token import NextToken
from selftaught.views.pairs import pairs

from .small import Texts, batch_of, facts, gradients, made, texts, tokens, words

LENGTHS = (7, 4, 9, 3, 12, 5, 8, 6)


@dataclass(frozen=True)
class Language(Texts):
    offers: ClassVar[frozenset] = Texts.offers | {"vocabulary", "pairs"}

    def untarget(self, values, view, grid):
        return view.with_parts(ids=values)

    def pairs(self, view, other, draw, following=None):
        return pairs(view, other, 16, draw, following=following)


METHODS = {"bert": BERT, "electra": ELECTRA, "hybrid": Hybrid}


def nats(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


def surprise(score: float, truth: bool) -> float:
    return math.log1p(math.exp(-score if truth else score))


def alone(view: View, row: int, ids=None) -> View:
    """One row without its padding."""
    n = int(view["valid"][row].sum())
    parts = {k: v[row : row + 1, :n] for k, v in view.parts.items()}
    return View("text", parts=parts | ({} if ids is None else {"ids": ids[None, :n]}))


def masked(view: View, chosen, row: int) -> torch.Tensor:
    return view["ids"][row].masked_fill(chosen[row], 3)


# bert --------------------------------------------------------------------------------------------------------------


def test_bert_is_the_mean_surprise_of_hidden_words_and_that_of_the_pairs():
    method = made(BERT(ratio=0.3), words(), Language())
    batch = batch_of(method, texts(LENGTHS), Language())
    pair, chosen = method._pair(batch)
    total, count, said = 0.0, 0, 0.0
    for row in range(len(LENGTHS)):
        read = method.encoder.trunk(method.encoder.tokenize(alone(pair, row, masked(pair, chosen, row)))).values[0]
        for n in chosen[row].nonzero().flatten().tolist():
            total, count = total + nats(method.head(read[n]).tolist(), int(pair["ids"][row, n])), count + 1
        said += surprise(method.judge(read[:1]).item(), bool(pair.params["follows"][row]))
    assert method.count(batch).tolist() == [count, len(LENGTHS)]
    assert method(batch)["loss"].item() == pytest.approx(total / count + said / len(LENGTHS), abs=1e-9)
    assert len({bool(f) for f in pair.params["follows"]}) == 2


def test_bert_tells_the_second_text_by_its_type_and_old_encoders_stay_as_they_were():
    encoder = words()
    before = encoder(texts((7, 4)))
    method = made(BERT(), encoder, Language())
    assert torch.equal(encoder(texts((7, 4))), before)
    assert encoder.config()["options"]["types"] == 2
    grads, _ = gradients(method, batch_of(method, texts(LENGTHS), Language()))
    assert (grads["encoder.type_embedding.weight"].abs().sum(1) > 0).all()
    assert "types" in words().config()["options"]
    assert not hasattr(words(), "type_embedding")


def test_bert_is_refused_where_nothing_can_follow():
    with pytest.raises(RequestError, match="no second stretch"):
        BERT().setup(words(), replace(facts(Language(), texts((3, 3, 3)))))
    with pytest.raises(RequestError, match="token types"):
        made(BERT(), tokens(), Language())
    assert any("teaches little" in note for note in made(BERT(), words(), Language()).notes())


# electra -----------------------------------------------------------------------------------------------------------


def test_electra_is_the_generators_surprise_and_fifty_times_the_judges():
    method = made(ELECTRA(ratio=0.4, generator=0.5), words(), Language())
    view = texts(LENGTHS)
    batch = batch_of(method, view, Language())
    target, chosen, able = method._target(batch)
    filled, _ = method._filled(batch, target, chosen)
    fill, judge, counts = 0.0, 0.0, [0, 0]
    for row in range(len(LENGTHS)):
        seen = method.encoder.tokenize(alone(view, row, masked(view, chosen, row)))
        known = method.small(seen.with_values(method.narrow(seen.values))).values[0]
        read = method.encoder.trunk(method.encoder.tokenize(alone(view, row, filled["ids"][row]))).values[0]
        for n in range(LENGTHS[row]):
            if chosen[row, n]:
                fill, counts[0] = fill + nats(method.fill(known[n]).tolist(), int(view["ids"][row, n])), counts[0] + 1
            if view["ids"][row, n] >= 4:
                fake = bool(filled["ids"][row, n] != view["ids"][row, n])
                judge, counts[1] = judge + surprise(method.judge(read[n]).item(), fake), counts[1] + 1
                assert not fake or chosen[row, n]
    assert method.count(batch).tolist() == counts == [int(chosen.sum()), int(able.sum())]
    assert method(batch)["loss"].item() == pytest.approx(fill / counts[0] + 50 * judge / counts[1], abs=1e-8)


def test_a_right_guess_of_the_generator_is_an_original():
    method = made(ELECTRA(ratio=0.5), words(), Language())
    view = texts(LENGTHS)
    same = view.with_parts(ids=torch.where(view["ids"] >= 4, 7, view["ids"]))
    with torch.no_grad():
        method.fill.bias[7] = 1000.0
    outputs = method(batch_of(method, same, Language()))
    assert outputs["replaced"] == 0
    assert outputs["auc"] == 0.5
    assert method(batch_of(method, view, Language()))["replaced"] > 0.3


def test_no_gradient_of_the_judge_reaches_the_generator():
    view, found = texts(LENGTHS), []
    for weight in (1.0, 1000.0):
        method = made(ELECTRA(weight=weight), words(), Language())
        found.append(gradients(method, batch_of(method, view, Language()))[0])
    own = [n for n in found[0] if n.startswith(("small.", "narrow.", "fill.dense", "fill.norm", "fill.bias"))]
    assert len(own) > 10
    for name in own:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found[0]["encoder.embedding.weight"], found[1]["encoder.embedding.weight"])


def test_tokens_are_drawn_as_often_as_the_generator_thinks():
    method = made(ELECTRA(), words(), Language())
    known = torch.randn(1, method.fill.dense.in_features, dtype=torch.float64)
    chance = method.fill(known).softmax(-1)[0]
    drawn = electra_file.sampled(known.expand(20_000, -1), method.fill, (torch.arange(20_000) + 0.5) / 20_000, 999)
    torch.testing.assert_close(torch.bincount(drawn, minlength=11) / 20_000, chance.float(), rtol=0, atol=1e-4)


def test_the_generator_shares_the_embedding_alone_and_is_dropped():
    method = made(ELECTRA(), words(), Language())
    assert method.fill.weight is method.encoder.embedding.weight
    shared = {id(p) for p in method.small.parameters()} & {id(p) for p in method.encoder.parameters()}
    assert not shared
    trained = [id(p) for g in method.param_groups() for p in g["params"]]
    assert len(trained) == len(set(trained))
    assert method.keep().parts == {}
    assert made(ELECTRA(generator=1.0), words(), Language()).narrow(torch.ones(1, 16)).shape == (1, 16)
    with pytest.raises(RequestError, match="generator"):
        made(ELECTRA(), tokens(), Language())


# hybrid ------------------------------------------------------------------------------------------------------------


def test_hybrid_predicts_from_the_token_before_whatever_it_sees():
    method = made(Hybrid(share=0.6, ratio=0.4), words(), Language())
    view = texts(LENGTHS)
    batch = batch_of(method, view, Language())
    kinds = method._masked(batch)
    _, _, gaps, onward = method._target(batch)
    sums, counts = [0.0, 0.0], [0, 0]
    for row in range(len(LENGTHS)):
        both = bool(kinds[row])
        shown = masked(view, gaps, row) if both else view["ids"][row]
        read = method.encoder.trunk(method.encoder.tokenize(alone(view, row, shown)), causal=not both).values[0]
        places = gaps[row].nonzero().flatten().tolist() if both else range(1, LENGTHS[row])
        for n in places:
            kind = 0 if both else 1
            sums[kind] += nats(method.head(read[n - 1]).tolist(), int(view["ids"][row, n]))
            counts[kind] += 1
    assert min(counts) > 0
    assert method.count(batch).tolist() == counts
    wanted = 0.6 * sums[0] / counts[0] + 0.4 * sums[1] / counts[1]
    assert method(batch)["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert not gaps[~kinds].any()
    assert not onward[kinds].any()


def test_hybrid_with_rows_of_one_kind_alone_is_finite():
    method = made(Hybrid(share=0.01), words(), Language())
    outputs = method(batch_of(method, texts((7, 4)), Language()))
    assert outputs["masked"] == 0
    assert outputs["loss"].isfinite()


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_hybrid_refuses_what_another_method_does(share):
    with pytest.raises(RequestError, match="without rows"):
        made(Hybrid(share=share), words(), Language())
    with pytest.raises(RequestError, match="only looks back"):
        made(Hybrid(), words(causal=True), Language())


# what they share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_loss_does_not_depend_on_padding(name):
    method = made(METHODS[name](), words(), Language())
    one, two = (gradients(method, batch_of(method, texts((9, 4, 6), width=w), Language())) for w in (9, 13))
    torch.testing.assert_close(one[1], two[1], rtol=0, atol=1e-11)
    for key in one[0]:
        torch.testing.assert_close(one[0][key], two[0][key], rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["electra", "hybrid"])
def test_a_packed_document_is_read_as_if_it_stood_alone(name):
    """A copy in the same sequence changes no output of the first: nothing crosses the border."""
    method = made(METHODS[name](), words(), Language()).eval()
    single = texts((6,), seed=3)
    twice = View("text", parts={
        "ids": single["ids"].repeat(1, 2), "valid": torch.ones(1, 12, dtype=torch.bool),
        "segment": torch.arange(1, 3).repeat_interleave(6)[None], "position": torch.arange(6).repeat(2)[None],
    })  # fmt: skip
    for causal in (False, True):
        once, copied = (method.encoder.trunk(method.encoder.tokenize(v), causal=causal).values for v in (single, twice))
        torch.testing.assert_close(copied, once.repeat(1, 2, 1), rtol=0, atol=1e-12)
    if name == "hybrid":
        chosen = sum(method._target(batch_of(method, twice, Language()))[2:])
        assert not chosen[0, 0]
        assert not chosen[0, 6]


@pytest.mark.parametrize("name", METHODS)
def test_marks_and_padding_are_never_hidden(name):
    method = made(METHODS[name](ratio=0.9), words(), Language())
    for step in range(4):
        batch = batch_of(method, texts((12, 3, 7) * 10), Language(), step=step)
        view, chosen = method._pair(batch) if name == "bert" else (batch.views[0], method._target(batch)[1])
        chosen = method._target(batch)[2] if name == "hybrid" else chosen
        assert chosen.any()
        assert (view["ids"][chosen] >= 4).all()
        assert view["valid"][chosen].all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["next-token", "masked-token", "bert"])
def test_the_loss_is_that_of_transformers_on_the_same_weights(name, tied, tmp_path):
    """GPT2LMHeadModel and XLMRobertaXLForMaskedLM compute their own loss from what was exported: labels by `valid`, never by an id."""
    torch.manual_seed(2)
    cls = {"next-token": NextToken, "masked-token": MaskedToken, "bert": BERT}[name]
    method = cls(tied=tied, **({} if name == "next-token" else {"ratio": 0.3})).setup(
        words().float(), facts(Language())
    )
    batch = batch_of(method, texts(LENGTHS), Language())
    measured = to_transformers(method.keep(), tmp_path)
    assert measured["tied"] is tied
    if name == "next-token":
        view, labels, model = batch.views[0], batch.views[0]["ids"], AutoModelForCausalLM
        labels = labels.masked_fill(~view["valid"], -100)
    else:
        if name == "bert":
            view, chosen = method._pair(batch)
        else:
            view, chosen = batch.views[0], method._target(batch)[1]
        labels, model = view["ids"].masked_fill(~chosen, -100), AutoModelForMaskedLM
        view = view.with_parts(ids=view["ids"].masked_fill(chosen, 3))
    more = {"token_type_ids": view["type"]} if name == "bert" else {}
    theirs = model.from_pretrained(tmp_path, local_files_only=True).eval()
    with torch.no_grad():
        wanted = theirs(input_ids=view["ids"], attention_mask=view["valid"].long(), labels=labels, **more).loss
        outputs = method(batch)
    torch.testing.assert_close(outputs["masked" if name == "bert" else "loss"], wanted, rtol=1e-5, atol=1e-5)
