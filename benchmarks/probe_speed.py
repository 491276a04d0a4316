"""What probes cost: the solvers of measures/ beside scikit-learn's LogisticRegression.

    python benchmarks/probe_speed.py [curve] [full]

curve: ten draws of 5, 25 and 100 labels a class (10 classes, 256 dimensions), the strength chosen from the same grid on the same folds,
medians of three alternating repeats.  full: all labels, a fifth of the rows for choosing the strength, then all of them: an
encoder's 256 numbers, pictures of 32 x 32 and of 144 x 144 pixels; scikit-learn does the last fit alone, at the strength that was chosen.
Seconds are of the clock, `cpu_seconds` those of all threads together, which other work on the machine changes little.
"""

import statistics
import sys
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


def photos(count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows as uneven as pixels: 600 directions whose size falls off as those of photographs do, under a little noise."""
    rng, labels, depth = np.random.default_rng(seed), np.arange(count) % CLASSES, 600
    mixing = np.random.default_rng(5).normal(size=(depth, width)).astype(np.float32)
    centres = np.random.default_rng(6).normal(size=(CLASSES, depth))
    hidden = (rng.normal(size=(count, depth)) + 0.15 * centres[labels]) * np.arange(1, depth + 1) ** -0.75
    out = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 2000):
        some = hidden[start : start + 2000].astype(np.float32) @ mixing
        out[start : start + 2000] = some + 0.05 * rng.standard_normal(some.shape, dtype=np.float32)
    return out, labels


FULL = {"50,000 x 256": (rows, 50_000, 256), "40,000 x 3,072": (photos, 40_000, 3_072), "5,000 x 62,208": (photos, 5_000, 62_208)}  # fmt: skip


def full(results: Results, name: str) -> None:
    """One read-out of all labels, its strength chosen; scikit-learn's fit at that strength; both judged on fresh rows."""
    from sklearn.linear_model import LogisticRegression

    from selftaught import measures

    make, count, width = FULL[name]
    settings = {} if make is rows else {"width": width}
    whole, labels = make(count + 2000, seed=1, **settings)  # of one seed: it also draws how numbers hang together
    x, y, fresh, truth = whole[:count], labels[:count], whole[count:], labels[count:]
    cut, scale = count * 4 // 5, measures.Scale.of(x[:2000])
    began = time.perf_counter(), time.process_time()
    model = measures.fit(x[:cut], y[:cut], x[cut:], y[cut:], classes=CLASSES, scale=scale)
    seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    scaled = np.ascontiguousarray(scale(x))
    began = time.perf_counter(), time.process_time()
    other = LogisticRegression(C=model.strength, tol=1e-6, max_iter=2000).fit(
        scaled, y
    )  # at 1e-4 it ends far from the optimum
    theirs, their_cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    accuracies = {
        "accuracy": float((model.outputs(fresh).argmax(1) == truth).mean()),
        "sklearn_accuracy": float((other.predict(scale(fresh)) == truth).mean()),
    }
    results.put(
        name, seconds=round(seconds, 1), cpu_seconds=round(cpu, 1), strength=model.strength, sklearn_one_fit_seconds=round(theirs, 1),
        sklearn_one_fit_cpu_seconds=round(their_cpu, 1), **accuracies,
    )  # fmt: skip
    print(
        f"{name}: {seconds:.1f} s ({cpu:.1f} of a core), scikit-learn's last fit {theirs:.1f} s, {accuracies}",
        flush=True,
    )


def curve(results: Results) -> None:
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


def main() -> None:
    warnings.simplefilter("ignore")  # scikit-learn's at strengths where it does not converge
    results = Results("probe_speed", draws=DRAWS, classes=CLASSES, dimensions=WIDTH)
    asked = sys.argv[1:] or ["curve", "full"]
    if "curve" in asked:
        curve(results)
    if "full" in asked:
        for name in FULL:
            full(results, name)


if __name__ == "__main__":
    main()
