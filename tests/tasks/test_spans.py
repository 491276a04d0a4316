"""Tags and answers as tasks: losses and predictions against independent computations."""

import numpy as np
import pytest
import torch

from selftaught import nets
from selftaught.core import Kept, Ragged
from selftaught.nets import store
from selftaught.nets.spans import Read, Reader
from selftaught.tasks import answer, tag
from selftaught.tasks.answer import Answer


def test_the_tags_of_a_task_hold_what_a_span_may_go_on_with():
    task = tag.fit([("O", "B-y", "O"), ("B-x", "I-x", None)], "IOB2")
    assert task.tags == ("O", "B-x", "I-x", "B-y", "I-y")
    assert (task.classes, task.usual, task.metric, task.piece) == (("x", "y"), 0, "span F1", "first")
    plain = tag.fit([("N", "V", "N")], "plain", causal=True)
    assert (plain.tags, plain.classes, plain.metric, plain.piece) == (("N", "V"), ("N", "V"), "accuracy", "last")


def test_the_loss_counts_words_with_a_tag_alone():
    task = tag.fit([("N", "V")], "plain")
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, -5.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, -1, 1])
    p = [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(10.0))]
    loss = task.loss(outputs, targets)
    assert float(loss.detach()) == pytest.approx(-(np.log(p[0]) + np.log(p[1])) / 2, rel=1e-6)
    loss.backward()
    assert (outputs.grad[1] == 0).all()
    assert float(task.loss(outputs, torch.tensor([-1, -1, -1])).detach()) == 0.0


def test_two_unequal_halves_give_the_gradient_of_the_whole_by_counts():
    task = tag.fit([("N", "V")], "plain")
    outputs = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 1, -1, -1, -1, 0, 1, 1, 0])
    (whole,) = torch.autograd.grad(task.loss(outputs, targets), outputs)
    parts = [task.loss(outputs[s], targets[s]) * int((targets[s] >= 0).sum()) / 6 for s in (slice(0, 5), slice(5, 9))]
    (summed,) = torch.autograd.grad(sum(parts), outputs)
    torch.testing.assert_close(whole, summed)


def test_predicted_spans_are_sequences_and_unknown_words_count_neither_way():
    task = tag.fit([("O", "B-x", "I-x")], "IOB2")
    outputs = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    first, second, empty = task.predict(outputs, torch.tensor([0, 2, 3, 3]))
    assert task.named(first[0]) == ["B-x", "I-x"]
    assert first[2]
    assert (task.named(second[0]), second[2], len(empty[0])) == (["O"], False, 0)
    found = task.tally([np.array([1, 1])], [np.array([1, -1])])
    assert found.value()[0] == 1.0


@pytest.mark.parametrize("nothing", [False, True])
def test_answers_by_loops(nothing):
    task, rng = Answer(nothing=nothing, longest=3), np.random.default_rng(1)
    offsets = torch.tensor([0, 4, 4, 9])
    pieces, none = torch.from_numpy(rng.normal(size=(9, 2)) * 3), torch.from_numpy(rng.normal(size=(3, 2)))
    wanted = torch.tensor([[1, 2], [-1, -1], [-1, -1]])
    losses, best = [], []
    for row in range(3):
        own = pieces[offsets[row] : offsets[row + 1]].numpy()
        silent = none[row].numpy() if nothing else np.full(2, -np.inf)
        whole = np.log(np.exp(np.vstack([silent, own])).sum(0)) if len(own) or nothing else np.zeros(2)
        at = wanted[row].numpy()
        if (at >= 0).all():
            losses.append(-(own[at, [0, 1]] - whole).sum())
        elif nothing:
            losses.append(-((silent if len(own) else np.zeros(2)) - (whole if len(own) else np.zeros(2))).sum())
        spans = {(i, j): own[i, 0] + own[j, 1] - whole.sum() for i in range(len(own)) for j in range(i, min(len(own), i + 3))}  # fmt: skip
        spans |= {(-1, -1): silent.sum() - whole.sum()} if nothing and len(own) else {}
        best.append(max(spans, key=spans.get) if spans else (-1, -1))
    assert float(task.loss((pieces, none), (wanted, offsets))) == pytest.approx(np.mean(losses), rel=1e-5)
    found = task.predict((pieces, none), offsets)
    assert [f[:2] for f in found] == best
    assert all(0 < f[2] <= 1 for f in found)


def test_what_pieces_cannot_spell_is_not_learnt_from():
    task = Answer(nothing=True)
    pieces, none = torch.zeros(2, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    assert float(task.loss((pieces, none), (torch.tensor([[-2, -2]]), torch.tensor([0, 2]))).detach()) == 0.0
    fitted = answer.fit(np.array([[3, 12], [-1, -1], [-2, -2]]), [True, False, True])
    assert (fitted.nothing, fitted.longest) == (True, 10)


def read(rows=(3, 5), width=8, clues=4) -> Read:
    made = torch.Generator().manual_seed(0)
    some = lambda n, w: torch.randn(n, w, generator=made)  # noqa: E731
    offsets = torch.tensor([0, rows[0], sum(rows)])
    return Read(Ragged(some(sum(rows), width), offsets), some(2, width), Ragged(some(4, width), torch.tensor([0, 1, 4])), Ragged(some(sum(rows), clues), offsets))  # fmt: skip


def test_a_reader_reads_each_row_by_itself():
    torch.manual_seed(0)
    net, both = Reader(width=8, clues=4, hidden=6).eval(), read()
    pieces, none = net(both)
    assert (pieces.shape, none.shape) == ((8, 2), (2, 2))
    for row, own in enumerate((pieces[:3], pieces[3:])):
        alone, silent = net(both.take(torch.tensor([row])))
        torch.testing.assert_close(alone, own)
        torch.testing.assert_close(silent[0], none[row])
    with pytest.raises(ValueError, match="odd"):
        Reader(width=8, clues=4, reach=4)


@pytest.mark.parametrize("kind", ["reader", "tagger"])
def test_heads_are_saved_whole(tmp_path, kind):
    head = nets.part(kind, {"width": 8, "clues": 4} if kind == "reader" else {"width": 8, "outputs": 3}).eval()
    encoder = nets.build("text-transformer", vocabulary=10, context=8, width=8, depth=1, heads=1)
    store.save(tmp_path / "m", Kept(encoder, {"head": head}))
    again = store.load(tmp_path / "m", parts=["head"]).parts["head"]
    first, second = head(read()), again(read())
    assert all(torch.equal(a, b) for a, b in zip(first, second))
