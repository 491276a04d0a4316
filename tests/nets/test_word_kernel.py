"""The compiled negative sampling against float64 computations with loops, and what its draws promise."""

import math

import numpy as np
import pytest

from selftaught.nets import word_kernel as kernel

KEY = np.uint64(20261122)
WIDTH = 16  # two registers of a row


def tables(counts, **options):
    given = {"sample": 0.0, **options}
    return kernel.sampling(np.asarray(counts), **given)


def random_tables(rows, vocabulary, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(0, 0.4, (n, WIDTH)).astype(np.float32) for n in (rows, vocabulary)]


def drawn(ids, sampling, options):
    """(word, words around it, negatives) by position for every centre, by the kernel's own draws."""
    kept, places = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    n = kernel.thin(ids, 0, len(ids), 7, sampling.keep, KEY, kept, places)
    for i in range(n):
        half = kernel.half_width(places[i], KEY, options.window)
        around = [j for j in range(max(0, i - half), min(n, i + half + 1)) if j != i]
        found = np.empty(options.negatives, np.int64)
        kernel.negatives_of(kept[i], places[i], KEY ^ kernel._MUL2, sampling.bound, sampling.other, sampling.common, options.negatives, found)  # fmt: skip
        yield i, kept[:n], around, found


def groups_of(centre, negatives):
    targets = [(centre, 1.0), *((w, 0.0) for w in negatives)]
    return [targets[i : i + kernel.GROUP] for i in range(0, len(targets), kernel.GROUP)]


def against(rows, places, group, outputs, rate):
    """Changes `rows` (N, D) at `places` and the group's outputs by their scores from before; the loss.

    A place that comes twice is met the second time as the first has left it."""
    loss, wanted = 0.0, {}
    scores = {
        (c, k): rows[place] @ outputs[word] for c, place in enumerate(places) for k, (word, _) in enumerate(group)
    }
    for c, place in enumerate(places):
        before = rows[place].copy()
        for k, (word, label) in enumerate(group):
            loss += math.log1p(math.exp(-scores[c, k] if label else scores[c, k]))
            slope = rate * (label - 1 / (1 + math.exp(-scores[c, k])))
            rows[place] += slope * outputs[word]
            wanted[word] = wanted.get(word, 0) + slope * before
    for word, step in wanted.items():
        outputs[word] = outputs[word] + step
    return loss


def by_hand(ids, inputs, outputs, sampling, options, bag):
    inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
    loss = count = 0
    for i, kept, around, negatives in drawn(ids, sampling, options):
        words = kept[around]
        mean, total = inputs[words].mean(0), np.zeros(WIDTH)
        for group in groups_of(kept[i], negatives):
            rows = mean[None].copy()
            loss += (
                against(rows, [0], group, outputs, options.rate)
                if bag
                else against(inputs, words, group, outputs, options.rate)
            )
            count += len(group) * (1 if bag else len(words))
            total += (rows[0] - mean) / len(words)
        np.add.at(inputs, words, np.broadcast_to(total, (len(words), WIDTH)))
    return inputs, outputs, loss, count


@pytest.mark.parametrize("bag", [False, True], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize("negatives", [1, 5, 8])
def test_steps_are_those_of_loops_in_float64(bag, negatives):
    """Words that stand twice in a window, negatives drawn twice, two groups of targets: every gradient arrives."""
    ids = np.array([0, 1, 2, 1, 3, 4, 1, 0, 5, 5, 2, 6, 1, 0], np.int32)
    inputs, outputs = random_tables(7, 7)
    sampling = tables(np.bincount(ids))
    options = kernel.Options(3, negatives, 0.1, 0.1, 1e9)
    room = kernel.room(len(ids), options, WIDTH)
    wanted = by_hand(ids, inputs, outputs, sampling, options, bag)
    kernel.train(ids, np.array([[0, len(ids), 7]]), 0.0, inputs, outputs, sampling, options, KEY, room, bag)
    np.testing.assert_allclose(inputs, wanted[0], atol=3e-6)
    np.testing.assert_allclose(outputs, wanted[1], atol=3e-6)
    assert room.loss == (pytest.approx(wanted[2], rel=3e-7), wanted[3])


def test_subwords_learn_as_loops_in_float64():
    """A word is the mean of its rows from when the window reaches it until it has passed; then each row takes the whole change."""
    ids = np.array([0, 1, 2, 0, 3, 2, 2, 1, 3, 0, 1], np.int32)
    rows = [[0, 5, 6], [1, 6], [2], [3, 4, 5, 5]]
    offsets, flat = np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32)
    inputs, outputs = random_tables(7, 4)
    sampling, options = tables(np.bincount(ids)), kernel.Options(2, 5, 0.1, 0.1, 1e9)
    room = kernel.room(len(ids), options, WIDTH, 4)
    table, out, loss = inputs.astype(np.float64), outputs.astype(np.float64), 0.0
    now, begun = {}, {}
    for i, kept, around, negatives in drawn(ids, sampling, options):
        for j in range(len(kept)):
            if j <= i + options.window and j not in begun:
                now[j] = table[rows[kept[j]]].mean(0)
                begun[j] = now[j].copy()
        (group,) = groups_of(kept[i], negatives)
        loss += against(now, around, group, out, options.rate)
        for j in sorted(now):
            if j <= i - options.window or i == len(kept) - 1:
                np.add.at(table, rows[kept[j]], now[j] - begun[j])
                del now[j]
    kernel.train_subwords(
        ids, np.array([[0, len(ids), 7]]), 0.0, inputs, outputs, sampling, options, KEY, room, offsets, flat
    )
    np.testing.assert_allclose(inputs, table, atol=3e-6)
    np.testing.assert_allclose(outputs, out, atol=3e-6)
    assert room.loss[0] == pytest.approx(loss, rel=1e-6)


def test_words_left_out_make_room_in_the_window():
    """Two words with fifty rare ones between them are neighbours: words go first, then the window is laid."""
    ids = np.array([0] + [2] * 50 + [1], np.int32)
    inputs, outputs = random_tables(3, 3)
    before, options = inputs.copy(), kernel.Options(1, 5, 0.1, 0.1, 1e9)
    room = kernel.room(len(ids), options, WIDTH)
    kernel.train(ids, np.array([[0, len(ids), 0]]), 0.0, inputs, outputs, tables([9, 9, 0]), options, KEY, room, False)
    assert room.loss[1] == 2 * 6
    assert (inputs[:2] != before[:2]).any(1).all()
    np.testing.assert_array_equal(inputs[2], before[2])


def test_words_stay_and_are_drawn_as_often_as_word2vec_says():
    counts = np.array([0, 50_000, 20_000, 400, 7, 1])
    sampling = kernel.sampling(counts, sample=1e-2)
    share = counts[1:] / counts.sum() / 1e-2
    np.testing.assert_allclose(
        sampling.keep[1:] / kernel.ALWAYS, np.minimum(1, (np.sqrt(share) + 1) / share), rtol=1e-8
    )
    assert sampling.keep[0] == 0
    own = sampling.bound / 2.0**32
    chance = own.copy()
    np.add.at(chance, sampling.other, 1 - own)
    np.testing.assert_allclose(chance / 6, counts**0.75 / (counts**0.75).sum(), atol=1e-9)
    ids = np.full(200_000, 1, np.int32)
    kept, places = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    stayed = kernel.thin(ids, 0, len(ids), 0, sampling.keep, KEY, kept, places) / len(ids)
    assert abs(stayed - sampling.keep[1] / kernel.ALWAYS) < 0.005


def test_negatives_come_by_the_table_and_are_never_the_centre():
    counts = np.array([100, 300, 50, 10])
    sampling, found, seen = tables(counts), np.empty(5, np.int64), np.zeros(4)
    for place in range(4000):
        kernel.negatives_of(1, place, KEY, sampling.bound, sampling.other, sampling.common, 5, found)
        seen += np.bincount(found, minlength=4)
    weight = counts**0.75 * (np.arange(4) != 1)
    np.testing.assert_allclose(seen / seen.sum(), weight / weight.sum(), atol=0.015)
    rare = tables([10**12, 1])  # sixteen draws of sixteen are the centre
    kernel.negatives_of(0, 3, KEY, rare.bound, rare.other, rare.common, 5, found)
    assert (found == 1).all()
    with pytest.raises(ValueError, match="two words"):
        tables([5, 0])


def test_window_is_drawn_evenly():
    seen = np.bincount([kernel.half_width(p, KEY, 5) for p in range(5000)], minlength=7)
    assert seen[0] == seen[6] == 0
    assert (abs(seen[1:6] / 5000 - 0.2) < 0.02).all()


def test_loss_is_exact_far_from_zero_and_over_many_rows():
    """Scores of some hundreds cost what they cost, and thousands of factors do not overflow."""
    ids = np.tile(np.array([0, 1, 2, 3], np.int32), 700)
    inputs, outputs = (60 * t for t in random_tables(4, 4))
    sampling, options = tables(np.bincount(ids)), kernel.Options(5, 5, 0.0, 0.0, 1e9)
    wanted = 0.0
    for i, kept, around, negatives in drawn(ids, sampling, options):
        scores = inputs[kept[around]].astype(np.float64) @ outputs[[kept[i], *negatives]].T.astype(np.float64)
        wanted += np.logaddexp(0, -scores[:, 0]).sum() + np.logaddexp(0, scores[:, 1:]).sum()
    room = kernel.room(len(ids), options, WIDTH)
    kernel.train(ids, np.array([[0, len(ids), 7]]), 0.0, inputs, outputs, sampling, options, KEY, room, False)
    assert room.loss[0] == pytest.approx(wanted, rel=1e-5)
    outputs[:] = 0
    room = kernel.room(len(ids), options, WIDTH)
    kernel.train(ids, np.array([[0, len(ids), 7]]), 0.0, inputs, outputs, sampling, options, KEY, room, False)
    assert room.loss[0] / room.loss[1] == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("pieces", [0, 4])
def test_threads_memory_shares_no_cache_line(pieces):
    rooms = [kernel.room(3, kernel.Options(2, 5, 0.02, 1e-4, 1.0), WIDTH, pieces) for _ in range(4)]
    lines = [set(range(a.ctypes.data // 64, (a.ctypes.data + a.nbytes - 1) // 64 + 1)) for room in rooms for a in room]
    assert sum(map(len, lines)) == len(set().union(*lines))
