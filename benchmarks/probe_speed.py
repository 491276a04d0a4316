"""What a label curve costs: the batched solver of measures/logistic.py beside scikit-learn's LogisticRegression.

    python benchmarks/probe_speed.py

Ten draws of 5, 25 and 100 labels a class (10 classes, 256 dimensions), the strength chosen from the same grid on the same folds, to
the same tolerance, medians of three alternating repeats; and one problem with 20,000 rows.
"""

import statistics
import time
import warnings

import numpy as np
from record import Results

DRAWS, CLASSES, WIDTH = 10, 10, 256


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    mixing = rng.normal(size=(WIDTH, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.5
    centres = np.random.default_rng(99).normal(size=(CLASSES, WIDTH))
    return ((rng.normal(size=(count, WIDTH)) + 0.4 * centres[labels]) @ mixing.T).astype(np.float32), labels


def ours(x: np.ndarray, y: np.ndarray, draws: list[np.ndarray]) -> None:
    from selftaught import measures

    measures.fit_draws(x, y, draws, classes=CLASSES, scale=measures.Scale.of(x), key=0)


def theirs(x: np.ndarray, y: np.ndarray, draws: list[np.ndarray]) -> None:
    """The same work by scikit-learn: every strength on every fold until the held-out loss has risen twice, then one fit."""
    from sklearn.linear_model import LogisticRegression

    from selftaught import measures
    from selftaught.measures import linear

    scaled = measures.Scale.of(x)(x)
    for draw in draws:
        fold, losses = linear.folds(y[draw], 0), []
        for strength in linear.GRID:
            total = 0.0
            for f in range(fold.max() + 1):
                inside, held = draw[fold != f], draw[fold == f]
                model = LogisticRegression(C=strength, tol=1e-3, max_iter=500).fit(scaled[inside], y[inside])
                total -= np.log(model.predict_proba(scaled[held])[np.arange(len(held)), y[held]] + 1e-30).sum()
            losses.append(total)
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        LogisticRegression(C=linear.GRID[int(np.argmin(losses))], tol=1e-4, max_iter=500).fit(scaled[draw], y[draw])


def large(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Seconds for one problem of all rows at C = 0.01: ours, scikit-learn's."""
    from sklearn.linear_model import LogisticRegression

    from selftaught import measures
    from selftaught.measures import linear

    scaled = measures.Scale.of(x)(x)
    began = time.perf_counter()
    linear._at(scaled, y, CLASSES, 0.01)
    middle = time.perf_counter()
    LogisticRegression(C=0.01, tol=1e-4, max_iter=500).fit(scaled, y)
    return middle - began, time.perf_counter() - middle


def main() -> None:
    warnings.simplefilter("ignore")  # scikit-learn's at strengths where it does not converge
    results = Results("probe_speed", draws=DRAWS, classes=CLASSES, dimensions=WIDTH)
    for budget in (5, 25, 100):
        x, y = rows(4 * budget * CLASSES, budget)
        rng = np.random.default_rng(budget)
        draws = [np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == c))[:budget] for c in range(CLASSES)])) for _ in range(DRAWS)]  # fmt: skip
        times: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
        for _ in range(3):
            for name, run in (("ours", ours), ("scikit-learn", theirs)):
                began = time.perf_counter()
                run(x, y, draws)
                times[name].append(time.perf_counter() - began)
        a, b = (statistics.median(times[n]) for n in ("ours", "scikit-learn"))
        results.put(f"{budget} labels a class", seconds=round(a, 2), sklearn_seconds=round(b, 2), ratio=round(b / a, 1))
        print(f"{budget} labels a class: {a:.2f} s, scikit-learn {b:.2f} s, {b / a:.1f} times", flush=True)
    a, b = large(*rows(20_000, 7))
    results.put("20,000 rows", seconds=round(a, 2), sklearn_seconds=round(b, 2), ratio=round(b / a, 1))
    print(f"20,000 rows: {a:.2f} s, scikit-learn {b:.2f} s")


if __name__ == "__main__":
    main()
