"""Every loss against a float64 computation of its definition with loops, and its gradient against finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from selftaught import losses
from selftaught.core import Target
from selftaught.losses import vocabulary


def normal(*shape, seed=0, grad=False):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


# mean --------------------------------------------------------------------------------------------------------------


def test_mean_of_parts_over_the_whole_count_adds_up_to_the_mean():
    values, total = normal(10), torch.tensor(10)
    parts = [losses.mean(part, total) for part in values.split([1, 6, 3])]
    assert abs(sum(parts) - values.mean()) < 1e-15
    naive = sum(part.mean() for part in values.split([1, 6, 3])) / 3
    assert abs(naive - values.mean()) > 1e-3  # a mean of means is another number


def test_mean_of_nothing_is_zero_with_zero_gradient():
    values = normal(4, grad=True)
    loss = losses.mean(values[:0])
    loss.backward()
    assert loss == 0
    assert torch.equal(values.grad, torch.zeros(4, dtype=torch.float64))


def test_rows_without_targets_do_not_count():
    assert losses.mean(torch.ones(3), torch.tensor(3)) == 1  # not 3 / (3 + something for an empty row)


# info_nce ----------------------------------------------------------------------------------------------------------


def nt_xent(z: np.ndarray, temperature: float) -> tuple[float, float]:
    """Loops over anchors and positives; z (B, V, P)."""
    rows, views, _ = z.shape
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    total, found = 0.0, 0
    for i in range(rows):
        for v in range(views):
            others = [
                math.exp(unit[i, v] @ unit[j, u] / temperature) for j in range(rows) for u in range(views) if j != i
            ]
            mine = [math.exp(unit[i, v] @ unit[i, u] / temperature) for u in range(views) if u != v]
            total += sum(-math.log(m / (m + sum(others))) for m in mine) / len(mine)
            found += max(mine) > max(others)
    return total / (rows * views), found / (rows * views)


@pytest.mark.parametrize(("rows", "views"), [(2, 2), (5, 2), (3, 4)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce(rows, views, temperature):
    z = normal(rows, views, 3) + normal(rows, 1, 3, seed=1)
    loss, found = losses.info_nce(z, temperature=temperature)
    wanted, wanted_found = nt_xent(z.numpy(), temperature)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)
    assert float(found) == wanted_found


def test_info_nce_of_two_views_is_cross_entropy_over_all_others():
    """The usual form (SimCLR, algorithm 1): 2B x 2B cosines without the diagonal, label = the partner."""
    z = normal(4, 2, 5)
    flat = torch.nn.functional.normalize(z, dim=-1).flatten(0, 1)
    scores = (flat @ flat.T / 0.2).fill_diagonal_(-torch.inf)
    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(8) ^ 1)
    assert float(losses.info_nce(z, temperature=0.2)[0] - wanted) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("views", [2, 3])
def test_info_nce_gradient(views):
    assert gradcheck(lambda z: losses.info_nce(z, temperature=0.3)[0], normal(3, views, 4, grad=True))


def test_info_nce_does_not_see_length_and_knows_its_bounds():
    z = normal(4, 2, 3)
    assert float(losses.info_nce(z * 17)[0] - losses.info_nce(z)[0]) == pytest.approx(0, abs=1e-12)
    collapsed = torch.ones(4, 2, 3, dtype=torch.float64)
    assert float(losses.info_nce(collapsed)[0]) == pytest.approx(math.log(7), abs=1e-12)
    assert float(losses.info_nce(collapsed)[1]) == 0


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 1, 3)])
def test_info_nce_refuses_what_has_no_contrast(shape):
    with pytest.raises(ValueError, match="two views of two rows"):
        losses.info_nce(torch.ones(shape))


def test_info_nce_at_low_temperature_is_finite_in_float32():
    z = torch.randn(8, 2, 4, requires_grad=True)
    loss, _ = losses.info_nce(z, temperature=0.005)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


# clustering --------------------------------------------------------------------------------------------------------


def sinkhorn_loops(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """Caron et al. 2020, appendix A, written with loops: Q is prototypes x rows."""
    rows, prototypes = scores.shape
    q = [[math.exp(scores[b, k] / epsilon) for b in range(rows)] for k in range(prototypes)]
    whole = sum(map(sum, q))
    q = [[x / whole for x in line] for line in q]
    for _ in range(iterations):
        q = [[x / sum(line) / prototypes for x in line] for line in q]
        sums = [sum(q[k][b] for k in range(prototypes)) for b in range(rows)]
        q = [[q[k][b] / sums[b] / rows for b in range(rows)] for k in range(prototypes)]
    return np.array(q).T * rows


@pytest.mark.parametrize(("rows", "prototypes"), [(6, 3), (4, 9)])
def test_sinkhorn(rows, prototypes):
    scores = normal(rows, prototypes).tanh()
    ours = losses.sinkhorn(scores, epsilon=0.05, iterations=3).numpy()
    assert np.abs(ours - sinkhorn_loops(scores.numpy(), 0.05, 3)).max() < 1e-12
    assert np.abs(ours.sum(1) - 1).max() < 1e-12


def test_sinkhorn_uses_all_prototypes_and_gives_no_gradient():
    scores = normal(12, 4, grad=True)
    assigned = losses.sinkhorn(scores, epsilon=0.5, iterations=200)
    assert (assigned.sum(0) - 3).abs().max() < 1e-6
    assert not assigned.requires_grad


def test_sinkhorn_of_equal_rows_is_even():
    """Collapsed features give no preference: the assignment cannot reward the collapse."""
    assert torch.allclose(losses.sinkhorn(torch.ones(5, 4)), torch.full((5, 4), 0.25))


@given(st.floats(-500, 500), st.floats(1, 60))
@settings(max_examples=25, deadline=None)
def test_sinkhorn_stays_finite_in_float32(shift, spread):
    assigned = losses.sinkhorn(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * spread + shift)
    assert assigned.isfinite().all()


def test_swapped_prediction():
    scores = [normal(4, 3, seed=i) for i in range(4)]
    assigned = [torch.softmax(normal(4, 3, seed=9 + i), 1) for i in range(2)]
    wanted, pairs = 0.0, 0
    for a in range(2):
        for v in range(4):
            if v == a:
                continue
            pairs += 1
            for b in range(4):
                z = sum(math.exp(s / 0.1) for s in scores[v][b].tolist())
                wanted -= (
                    sum(
                        q * math.log(math.exp(s / 0.1) / z)
                        for q, s in zip(assigned[a][b].tolist(), scores[v][b].tolist(), strict=True)
                    )
                    / 4
                )
    assert float(losses.swapped_prediction(assigned, scores, temperature=0.1)) == pytest.approx(
        wanted / pairs, abs=1e-12
    )
    with pytest.raises(ValueError, match="another one"):
        losses.swapped_prediction(assigned[:1], scores[:1])


def test_swapped_prediction_gradient_reaches_scores():
    scores, assigned = normal(3, 4, grad=True), torch.softmax(normal(3, 4, seed=1), 1)
    assert gradcheck(lambda s: losses.swapped_prediction([assigned], [assigned, s], temperature=0.5), scores)


# regression --------------------------------------------------------------------------------------------------------


def test_negative_cosine():
    a, b = normal(5, 3, grad=True), normal(5, 3, seed=1, grad=True)
    ours = losses.negative_cosine(a, b)
    wanted = [
        -sum(x * y for x, y in zip(p, q, strict=True)) / math.hypot(*p) / math.hypot(*q)
        for p, q in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert np.abs(ours.detach().numpy() - wanted).max() < 1e-12
    distance = (torch.nn.functional.normalize(a, dim=1) - torch.nn.functional.normalize(b, dim=1)).square().sum(1)
    torch.testing.assert_close(2 + 2 * ours, distance)
    ours.sum().backward()
    assert b.grad is None  # stop-gradient
    assert gradcheck(lambda x: losses.negative_cosine(x, b.detach()[:2]), normal(2, 3, seed=4, grad=True))


def test_standardised():
    patch = normal(2, 3, 8) * 5 + 3
    for ours, row in zip(losses.standardised(patch).flatten(0, 1).tolist(), patch.flatten(0, 1).tolist(), strict=True):
        mean = sum(row) / 8
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / 7 + 1e-6)
        assert ours == pytest.approx([(x - mean) / deviation for x in row], abs=1e-12)
    assert torch.equal(losses.standardised(torch.full((1, 4), 3.0)), torch.zeros(1, 4))
    assert torch.equal(losses.standardised(torch.tensor([[3.0]])), torch.tensor([[3.0]]))


# tokens ------------------------------------------------------------------------------------------------------------


def class_target(rows=3, tokens=5, classes=7):
    values = torch.randint(0, classes, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return Target("class", values, torch.ones(rows, tokens, dtype=torch.bool), classes=classes)


CHOSEN = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)


def test_token_loss_of_classes():
    target, logits = class_target(), normal(4, 7)
    labels = [target.values[b, n].item() for b in range(3) for n in range(5) if CHOSEN[b, n]]
    wanted = sum(
        math.log(sum(math.exp(x) for x in row)) - row[y] for row, y in zip(logits.tolist(), labels, strict=True)
    )
    assert float(losses.token_loss(logits, target, CHOSEN)) == pytest.approx(wanted / 4, abs=1e-12)
    assert float(losses.token_loss(logits, target, CHOSEN, torch.tensor(16))) == pytest.approx(wanted / 16, abs=1e-12)


def test_token_loss_of_values():
    values, predictions = normal(3, 5, 2), normal(4, 2, seed=1)
    target = Target("value", values, torch.ones(3, 5, dtype=torch.bool), width=2)
    wanted = np.mean((predictions.numpy() - values.numpy()[CHOSEN.numpy()]) ** 2)
    assert float(losses.token_loss(predictions, target, CHOSEN)) == pytest.approx(wanted, abs=1e-12)


def test_token_loss_gradient_and_mismatch():
    assert gradcheck(lambda p: losses.token_loss(p, class_target(), CHOSEN), normal(4, 7, grad=True))
    with pytest.raises(ValueError, match="3 predictions for 4"):
        losses.token_loss(normal(3, 7), class_target(), CHOSEN)


@pytest.mark.parametrize("limit", [1 << 24, 15, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_head_loss_in_chunks_gives_the_same_loss_and_gradients(limit, bias, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", limit)
    monkeypatch.setattr(vocabulary, "ROWS", 1)
    target = class_target()
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 7, bias=bias).double()
    hidden, again = normal(4, 6, grad=True), normal(4, 6, grad=True)
    wanted_loss = losses.token_loss(head(hidden), target, CHOSEN)
    (3 * wanted_loss).backward()
    wanted = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    loss = losses.head_loss(again, head, target, CHOSEN)
    (3 * loss).backward()
    torch.testing.assert_close(loss, wanted_loss)
    torch.testing.assert_close(again.grad, hidden.grad)
    for p, grad in zip(head.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_head_loss_of_huge_logits_is_finite_and_without_gradient_the_same():
    head = torch.nn.Linear(6, 7)
    hidden = 1e4 * torch.randn(4, 6)
    with torch.no_grad():
        loss = losses.head_loss(hidden, head, class_target(), CHOSEN)
    assert torch.isfinite(loss)
    torch.testing.assert_close(loss, losses.token_loss(head(hidden), class_target(), CHOSEN))


def test_head_loss_under_autocast_is_near_the_full_one():
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 7)
    hidden, again = torch.randn(4, 6, requires_grad=True), None
    again = hidden.detach().clone().requires_grad_()
    losses.head_loss(hidden, head, class_target(), CHOSEN).backward()
    full = head.weight.grad.clone()
    head.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.head_loss(again, head, class_target(), CHOSEN)
    loss.backward()
    assert loss.dtype == torch.float32
    assert head.weight.grad.dtype == torch.float32
    torch.testing.assert_close(head.weight.grad, full, atol=0.02, rtol=0.05)
    torch.testing.assert_close(again.grad, hidden.grad, atol=0.02, rtol=0.05)


def test_head_loss_with_no_chosen_token_is_zero():
    head = torch.nn.Linear(6, 7)
    loss = losses.head_loss(torch.zeros(0, 6), head, class_target(), CHOSEN & False)
    loss.backward()
    assert loss == 0
    assert head.weight.grad.abs().sum() == 0


# keyed_nce, queued_nce ---------------------------------------------------------------------------------------------


def keyed_by_loops(q: np.ndarray, k: np.ndarray, temperature: float) -> tuple[float, float]:
    q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
    total, found = 0.0, 0
    for i in range(len(q)):
        scores = [math.exp(q[i] @ other / temperature) for other in k]
        total -= math.log(scores[i] / sum(scores))
        found += scores[i] == max(scores)
    return total / len(q), found / len(q)


def queued_by_loops(q: np.ndarray, k: np.ndarray, old: np.ndarray, temperature: float) -> tuple[float, float]:
    q, k, old = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k, old))
    total, found = 0.0, 0
    for mine, own in zip(q, k, strict=True):
        right = math.exp(mine @ own / temperature)
        others = [math.exp(mine @ other / temperature) for other in old]
        total -= math.log(right / (right + sum(others)))
        found += right > max(others)
    return total / len(q), found / len(q)


def test_keyed_nce():
    q, k = normal(6, 4), normal(6, 4, seed=1) + normal(6, 4)
    loss, found = losses.keyed_nce(q, k, temperature=0.3)
    wanted, share = keyed_by_loops(q.numpy(), k.numpy(), 0.3)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)
    assert float(found) == pytest.approx(share)
    pair = (normal(4, 3, grad=True), normal(4, 3, seed=1, grad=True))
    assert gradcheck(lambda a, b: losses.keyed_nce(a, b, temperature=0.3)[0], pair)


def test_queued_nce():
    q, k, old = normal(6, 4), normal(6, 4, seed=1) + normal(6, 4), normal(5, 4, seed=2)
    loss, found = losses.queued_nce(q, k, old, temperature=0.3)
    wanted, share = queued_by_loops(q.numpy(), k.numpy(), old.numpy(), 0.3)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)
    assert float(found) == pytest.approx(share)
    pair = (normal(4, 3, grad=True), normal(4, 3, seed=1, grad=True))
    assert gradcheck(lambda a, b: losses.queued_nce(a, b, normal(5, 3, seed=2), temperature=0.3)[0], pair)


# losses of soft classes, and sums by row -----------------------------------------------------------------------------


def test_old_embeddings_stand_in_every_denominator():
    z, old = normal(4, 2, 3), normal(5, 3, seed=2)
    loss, found = losses.info_nce(z, temperature=0.3, old=old)
    unit, memory = (x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True) for x in (z, old))
    total, right = 0.0, 0
    for i in range(4):
        for v in range(2):
            others = [math.exp(unit[i, v] @ unit[j, u] / 0.3) for j in range(4) for u in range(2) if j != i]
            others += [math.exp(unit[i, v] @ m / 0.3) for m in memory]
            own = math.exp(unit[i, v] @ unit[i, 1 - v] / 0.3)
            total -= math.log(own / (own + sum(others)))
            right += own > max(others)
    assert float(loss) == pytest.approx(total / 8, abs=1e-12)
    assert float(found) == pytest.approx(right / 8)


def test_soft_cross_entropy_and_its_mean_by_row():
    scores, wanted = normal(5, 3), torch.softmax(normal(5, 3, seed=1), 1)
    found = losses.soft_cross_entropy(wanted, scores, temperature=0.5)
    for i in range(5):
        e = np.exp(scores[i].numpy() / 0.5)
        assert float(found[i]) == pytest.approx(-(wanted[i].numpy() * np.log(e / e.sum())).sum(), abs=1e-12)
    chosen = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    rows = losses.by_row(found, chosen)
    assert rows.tolist() == pytest.approx([float(found[:2].mean()), 0.0, float(found[2:].mean())])


def test_middle_and_perplexity():
    x = normal(7, 3)
    torch.testing.assert_close(losses.middle(x), x.mean(0, keepdim=True))
    assert float(losses.middle(x[:0]).abs().max()) == 0
    assert float(losses.perplexity(torch.eye(4))) == pytest.approx(4)
    assert float(losses.perplexity(torch.eye(4)[[1, 1]])) == pytest.approx(1)


def test_sinkhorn_of_no_rows_is_empty():
    assert losses.sinkhorn(torch.zeros(0, 3)).shape == (0, 3)
