"""mAP against a slow reading of COCO's own procedure, and against answers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.measures.detection import OVERLAPS, Objects, match, overlaps, suppress


def slow_iou(a, b, crowd=False):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = w * h if w > 0 and h > 0 else 0.0
    area = lambda x: (x[2] - x[0]) * (x[3] - x[1])  # noqa: E731
    union = area(a) if crowd else area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0


def slow_ap(found, truths, k, threshold):
    """COCOeval's evaluateImg and accumulate for one class, overlap and all areas, in loops."""
    entries, total = [], 0
    for mine, true in zip(found, truths, strict=True):
        order = sorted((i for i in range(len(mine)) if mine.classes[i] == k), key=lambda i: -mine.scores[i])[:100]
        own = [g for g in range(len(true)) if true.classes[g] == k]
        own.sort(key=lambda g: bool(true.crowd[g]))
        total += sum(not true.crowd[g] for g in own)
        taken = set()
        for d in order:
            best, at = min(threshold, 1 - 1e-10), None
            for g in own:
                if g in taken and not true.crowd[g]:
                    continue
                if at is not None and not true.crowd[at] and true.crowd[g]:
                    break
                shared = slow_iou(mine.boxes[d], true.boxes[g], true.crowd[g])
                if shared < best:
                    continue
                best, at = shared, g
            if at is not None:
                taken.add(at)
            entries.append((mine.scores[d], at is not None, at is not None and bool(true.crowd[at])))
    if not total:
        return None
    entries.sort(key=lambda e: -e[0])
    right = wrong = 0
    curve = []
    for _, hit, ignored in entries:
        right += hit and not ignored
        wrong += not hit and not ignored
        curve.append((right / total, right / max(right + wrong, 1e-300)))
    for i in range(len(curve) - 1, 0, -1):
        curve[i - 1] = (curve[i - 1][0], max(curve[i - 1][1], curve[i][1]))
    return np.mean([next((p for r, p in curve if r >= level), 0.0) for level in np.linspace(0, 1, 101)])


def random_objects(rng, count, classes, *, truth):
    low = rng.uniform(0, 20, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 14, (count, 2))], 1).round(1)
    crowd = rng.random(count) < 0.15 if truth else np.zeros(count, bool)
    return Objects.of(boxes, rng.integers(0, classes, count), None if truth else rng.random(count).round(2), crowd)


@given(st.integers(0, 10_000))
def test_average_precision_equals_coco_in_loops(seed):
    rng = np.random.default_rng(seed)
    truths = [random_objects(rng, rng.integers(0, 6), 3, truth=True) for _ in range(4)]
    found = []
    for true in truths:  # some near the truth, some anywhere
        near = Objects.of(
            true.boxes + rng.normal(0, 1.0, true.boxes.shape), true.classes, rng.random(len(true)).round(2)
        )
        stray = random_objects(rng, rng.integers(0, 4), 3, truth=False)
        found.append(Objects(*(np.concatenate(p) for p in zip(vars(near).values(), vars(stray).values(), strict=True))))
    tally = match(found, truths, 3)
    got = tally.precision()[0]
    wanted = [[slow_ap(found, truths, k, t) for k in range(3)] for t in OVERLAPS]
    expected = np.array([[np.nan if v is None else v for v in row] for row in wanted], float)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    known = expected[~np.isnan(expected)]
    assert float(tally.value()[0]) == pytest.approx(known.mean() if known.size else 0.0)


def test_known_answers():
    true = Objects.of([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0])
    exact = Objects.of(true.boxes, [0, 0], [0.9, 0.8])
    assert match([exact], [true], 1).figures(["a"])["mAP"] == 1.0
    one = exact.take(np.array([0]))  # half of what is there: precision 1 up to recall 0.5, which 51 of 101 levels reach
    assert match([one], [true], 1).figures(["a"])["mAP"] == pytest.approx(51 / 101)
    twice = Objects.of([*true.boxes[:1], *true.boxes[:1], true.boxes[1]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert match([twice], [true], 1).figures(["a"])["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    loose = Objects.of([[0, 0, 10, 7], [20, 0, 30, 7]], [0, 0], [0.9, 0.8])  # overlap 0.7: right at 0.50 to 0.70
    figures = match([loose], [true], 1).figures(["a"])
    assert (figures["AP50"], figures["AP75"]) == (1.0, 0.0)
    assert figures["mAP"] == pytest.approx(0.5)
    other = Objects.of(true.boxes, [1, 1], [0.9, 0.8])
    assert match([other], [true], 2).figures(["a", "b"]) == {"mAP": 0.0, "AP50": 0.0, "AP75": 0.0, "AP a": 0.0}


def test_what_lies_in_a_crowd_counts_neither_way():
    true = Objects.of([[0, 0, 10, 10], [20, 20, 60, 60]], [0, 0], crowd=[False, True])
    found = Objects.of([[0, 0, 10, 10], [30, 30, 40, 40], [31, 31, 41, 41]], [0, 0, 0], [0.5, 0.9, 0.8])
    assert match([found], [true], 1).figures(["a"])["mAP"] == 1.0
    stray = Objects.of([[70, 70, 80, 80], [0, 0, 10, 10]], [0, 0], [0.9, 0.5])
    assert match([stray], [true], 1).figures(["a"])["mAP"] == pytest.approx(0.5)


def test_weights_count_pictures_as_if_they_lay_there_again():
    rng = np.random.default_rng(3)
    truths = [random_objects(rng, 4, 2, truth=True) for _ in range(5)]
    found = [Objects.of(t.boxes + rng.normal(0, 1, t.boxes.shape), t.classes, rng.permutation(40)[:4] / 40 + k / 1000) for k, t in enumerate(truths)]  # fmt: skip
    weights = np.array([[1, 1, 1, 1, 1], [0, 2, 0, 1, 3], [1, 0, 1, 1, 1]])
    got = match(found, truths, 2).value(weights)
    for value, often in zip(got, weights, strict=True):
        again = np.repeat(np.arange(5), often)
        wanted = match([found[i] for i in again], [truths[i] for i in again], 2).value()[0]
        assert value == pytest.approx(wanted, abs=0.02)  # equal scores of one picture laid twice are one step, not two
    assert got[0] == pytest.approx(match(found, truths, 2).value()[0])
    left_out = match([found[i] for i in (0, 2, 3, 4)], [truths[i] for i in (0, 2, 3, 4)], 2)
    assert got[2] == pytest.approx(left_out.value()[0])


def test_no_object_at_all_is_no_error():
    assert match([Objects()], [Objects()], 2).value() == 0.0
    assert match([Objects()], [Objects.of([[0, 0, 1, 1]], [1])], 2).figures(["a", "b"])["mAP"] == 0.0
    with pytest.raises(ValueError, match="1 pictures"):
        match([Objects()], [], 2)


@given(st.integers(0, 10_000))
def test_suppression_keeps_the_surest_and_nothing_that_overlaps_it(seed):
    rng = np.random.default_rng(seed)
    found = random_objects(rng, 12, 1, truth=False)
    kept = suppress(found.boxes, found.scores, 0.4)
    assert (np.diff(found.scores[kept]) <= 0).all()
    shared = overlaps(found.boxes[kept], found.boxes[kept]) - np.eye(len(kept))
    assert (shared <= 0.4).all()
    for gone in set(range(12)) - set(kept.tolist()):
        surer = [k for k in kept if found.scores[k] >= found.scores[gone]]
        assert max(slow_iou(found.boxes[k], found.boxes[gone]) for k in surer) > 0.4
