"""Is the verdict calibrated?  Null and planted sets in small: benchmarks/verdict_calibration.py does it with real pretraining."""

import numpy as np
import pytest

from selftaught.evaluation.probe import Features, few_label_draws, probe
from selftaught.evaluation.protocol import prepare
from selftaught.evaluation.statistics import generator
from selftaught.evaluation.verdict import choose_control, judge
from tests.evaluation.toys import Rows


def network(x: np.ndarray, seed: int, width: int = 24) -> np.ndarray:
    """An untrained network of two layers."""
    rng = generator("network", seed)
    hidden = np.maximum(x @ rng.normal(size=(x.shape[1], width)), 0)
    return (hidden @ rng.normal(size=(width, width))).astype(np.float32)


def answer(x: np.ndarray, y: np.ndarray, pretrained: np.ndarray, seed: int) -> str:
    """The verdict at five labels a class, by the pieces that `evaluate` is made of."""
    problem = prepare(Rows(x, y, classes=tuple("abcd")), seed=seed)
    draws = few_label_draws(problem, [5], 6, seed)

    def arm(*features):
        found = [probe(problem, Features(f[problem.pool.ids], f[problem.test.ids]), draws, full=False, extra=False) for f in features]  # fmt: skip
        for more in found[1:]:
            found[0].join(more)
        return found[0]

    controls = {"raw": arm(x), "untrained": arm(network(x, 3 * seed), network(x, 3 * seed + 1))}
    chosen = choose_control({name: a.validation[5] for name, a in controls.items()})
    ours, theirs = arm(pretrained).scores["linear", 5], controls[chosen].scores["linear", 5]
    return judge(ours, theirs, name=chosen, budget=5, metric="accuracy", seed=seed).answer


def null_set(seed: int) -> str:
    """Noise with random labels, or structure with true labels and one more untrained network as the pretrained one."""
    rng = generator("null", seed)
    y = rng.integers(0, 4, 300)
    x = rng.normal(size=(300, 16)) * np.arange(1, 17) ** -0.5
    if seed % 2:
        x = x + 0.7 * generator("centres").normal(size=(4, 16))[y]
    return answer(x.astype(np.float32), y, network(x, 3 * seed + 2), seed)


def planted_set(seed: int) -> str:
    """Four directions with the classes under louder ones; the pretrained features are the four."""
    rng = generator("planted", seed)
    y = rng.integers(0, 4, 300)
    signal = rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[y]
    x = np.concatenate([signal, 3 * rng.normal(size=(300, 20))], 1) @ rng.normal(size=(24, 24))
    return answer(x.astype(np.float32), y, signal.astype(np.float32), seed)


def test_null_sets_are_hardly_ever_called_helped():
    answers = [null_set(seed) for seed in range(16)]
    assert answers.count("helped") <= 2  # of 16 at the nominal 2.5 %, odds of three are 1 in 140
    assert answers[::2].count("cannot tell") >= 6  # noise; on structure the raw input may truly be better


def test_planted_sets_are_seen():
    assert [planted_set(seed) for seed in range(5)].count("helped") >= 4


@pytest.mark.slow
def test_the_rate_of_false_alarms_over_many_null_sets():
    answers = [null_set(seed) for seed in range(1000, 1300)]
    assert answers.count("helped") <= 15  # nominal 7.5
    assert answers.count("hurt") <= 150  # an untrained network may well be worse than the raw input
