"""What texts are set against beside the usual controls: TF-IDF with a linear read-out, and a bag of n-grams trained on the labels (fastText's way)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from .. import measures
from ..core import random
from ..core.task import Task
from ..data.bad import Bad
from ..measures.topics import topics
from .probe import Probed, read_outs, scores
from .protocol import Budget, Problem
from .statistics import Scores

SPELLED = {
    "tf-idf": "TF-IDF with a linear read-out",
    "fasttext": "a bag of n-grams trained on the labels (fastText's way)",
}
NAMES = tuple(SPELLED)
FEATURES = 200_000
"""N-grams that TF-IDF keeps at most: the most frequent of the training texts."""
STRETCH = 10.0
"""Rows of TF-IDF have length 1, standardised features about sqrt(D): so the read-out's strengths mean C = 1e-3 to 1e4."""
STRENGTHS = tuple(10.0**k for k in range(-2, 5))
BUCKETS, WIDTH, BATCH = 1 << 18, 16, 16
_PRIME = 1_000_003
EPOCHS, MANY = (25, 5), 2_000
"""Passes over few training rows, and over more than MANY."""
RATES = (0.1, 0.5)
"""Rates of which validation chooses, as it chooses the scratch control's views."""
DRAWS = 3
SHOWN = 160
"""Characters of a text that are shown of it."""
_DEAD = -1e3
"""The logit of a class that no training row has."""


def is_text(dataset) -> bool:
    """Whether these rows are texts that can be read again as such."""
    return getattr(dataset.modality, "name", "") == "text" and hasattr(dataset, "source")


def texts_of(dataset) -> list[str]:
    """The texts of the rows, whole."""
    found = []
    for payload in dataset.source.payloads(dataset.column, dataset.source_rows()):
        if isinstance(payload, Bad):
            found.append("")
        else:
            found.append(payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload))
    return found


def shortened(text: str, most: int = SHOWN) -> str:
    """A text in one line, cut where it is long."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


@dataclass
class Texts:
    """The texts of a problem's pool and test rows."""

    pool: list[str]
    test: list[str]

    @classmethod
    def of(cls, problem: Problem) -> Texts:
        return cls(texts_of(problem.pool), texts_of(problem.test))


class TfIdf:
    """TF-IDF of a problem's texts: words and pairs of words, log counts, rows of length 1, with a linear read-out.

    Vocabulary and weights come from the probe's training texts alone; strengths are chosen as the probe chooses them.  Whole texts are read, whatever an encoder's context.
    """

    def __init__(self, problem: Problem, held: Texts | None = None):
        from sklearn.feature_extraction.text import TfidfVectorizer

        held = held or Texts.of(problem)
        made = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, max_features=FEATURES, token_pattern=r"(?u)\b\w+\b", dtype=np.float64
        )
        made.fit([held.pool[row] for row in problem.probe_train])
        self.problem, self.pool, self.test = problem, made.transform(held.pool), made.transform(held.test)

    def probed(self, draws: dict[Budget, list[np.ndarray]], *, seed: int = 0, full: bool = True) -> Probed:
        """("linear", budget) scores at every budget of `draws`, and with all labels where `full`."""
        found, problem, held = Probed(), self.problem, self.problem.probe_validation
        for budget, some in draws.items():
            guesses, checked = [], []
            for draw, rows in enumerate(some):
                key = random.key(seed, "folds", budget, draw)
                tested, validated = _of_draw(problem, self.pool, [self.test, self.pool[held]], rows, key)
                guesses.append(problem.task.predict(tested))
                checked.append(problem.task.predict(validated))
            found.scores["linear", budget] = scores(problem.task, np.stack(guesses), problem.targets)
            truth = problem.labels.values[held]
            found.validation[budget] = scores(problem.task, np.stack(checked), truth).mean if len(held) else 0.0
        if full:
            outputs, found.validation["all"] = _of_all(problem, self.pool, self.test)
            guess = problem.task.predict(outputs)
            found.scores["linear", "all"] = scores(problem.task, guess[None], problem.targets)
            found.figures = problem.task.metrics(guess, problem.targets)
        return found

    def chosen(self, rows: np.ndarray, fold: np.ndarray, seed: int) -> Scores:
        """Scores of pool `rows`, each guessed once by a read-out of the other folds: as choice.Choice scores features."""
        outputs = np.zeros((len(rows), self.problem.task.outputs))
        for f in range(int(fold.max()) + 1):
            seen, held = rows[fold != f], np.flatnonzero(fold == f)
            key = random.key(seed, "choice", f)
            (outputs[held],) = _of_draw(self.problem, self.pool, [self.pool[rows[held]]], seen, key)
        task = self.problem.task
        return scores(task, task.predict(outputs)[None], self.problem.labels.values[rows])


def _of_draw(problem: Problem, pool, others: Sequence, rows: np.ndarray, key: int) -> list[np.ndarray]:
    """Outputs for other rows of a read-out fitted on a few: in the coordinates of those few, in which the fit is the same (the solution of a ridge lies in their span)."""
    own = pool[rows]
    value, vector = np.linalg.eigh((own @ own.T).toarray())
    kept = value > 1e-10 * max(1.0, value.max())
    back = vector[:, kept] / np.sqrt(value[kept])
    features = vector[:, kept] * np.sqrt(value[kept])
    width = features.shape[1]
    scale = measures.Scale(np.zeros(width), np.full(width, STRETCH))
    groups = None if problem.pool_groups is None else problem.pool_groups[rows]
    targets = problem.labels.values[rows]
    (model,) = read_outs(problem.task, features, targets, [np.arange(len(rows))], scale=scale, key=key, groups=groups)
    return [model.outputs((other @ own.T).toarray() @ back) for other in others]


def _of_all(problem: Problem, pool, test) -> tuple[np.ndarray, float]:
    """(outputs of the test rows, validation score) with all labels: strength chosen on validation, fitted again on both."""
    train, held = problem.probe_train, problem.probe_validation
    targets, task = problem.labels.values, problem.task
    best, score, losses = STRENGTHS[0], 0.0, []
    for strength in STRENGTHS:
        outputs = _fit(task, pool[train], targets[train], strength)(pool[held])
        with torch.no_grad():
            losses.append(float(task.loss(torch.from_numpy(outputs), torch.from_numpy(targets[held]))))
        if losses[-1] <= min(losses):
            best, score = strength, scores(task, task.predict(outputs)[None], targets[held]).mean
        elif len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    both = problem.everything
    return _fit(task, pool[both], targets[both], best)(test), score


def _fit(task: Task, rows, targets: np.ndarray, strength: float):
    """A function from sparse rows to the outputs (N, K) of scikit-learn's logistic regression (ridge for numbers)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.wants == "number":
        model = Ridge(alpha=1 / strength, solver="sparse_cg").fit(rows, task.encode(targets))
        return lambda other: model.predict(other)[:, None]
    columns = targets.T if task.wants == "set" else [targets]
    parts = []
    for own in columns:
        present = np.unique(own)
        parts.append((present, LogisticRegression(C=strength, max_iter=300).fit(rows, own) if len(present) > 1 else None))  # fmt: skip

    def outputs(other) -> np.ndarray:
        if task.wants == "set":
            return np.stack([(-1.0) ** (1 - p[0]) * -_DEAD * np.ones(other.shape[0]) if m is None else m.decision_function(other) for p, m in parts], 1)  # fmt: skip
        ((present, model),) = parts
        out = np.full((other.shape[0], task.outputs), _DEAD)
        z = model.decision_function(other) if model is not None else np.zeros((other.shape[0], 1))
        out[:, present] = np.stack([np.zeros_like(z), z], 1) if z.ndim == 1 else z
        return out

    return outputs


def fasttext(problem: Problem, texts: Texts, draws: dict[Budget, list[np.ndarray]], *, seed: int = 0) -> Probed:
    """("finetune", budget) scores of the mean of vectors of words and pairs of words with a linear layer on it, trained from nothing on the labels (Joulin et al. 2017).

    `draws` as for the scratch control: at "all" (one array, ignored) the probe's training rows.  The rate is chosen on validation at the first draw."""
    pool, test = [hashed(t) for t in texts.pool], [hashed(t) for t in texts.test]
    found, held = Probed(), problem.probe_validation
    truth = problem.labels.values
    for budget, several in draws.items():
        some = [problem.probe_train] if budget == "all" else several

        def made(rows: np.ndarray, rate: float, draw: int) -> tuple[np.ndarray, float]:
            own = _Bag(problem.task, [pool[r] for r in rows], truth[rows], rate, random.key(seed, "fasttext", draw))
            checked = problem.task.predict(own.outputs([pool[r] for r in held]))
            figure = scores(problem.task, checked[None], truth[held]).mean if len(held) else 0.0
            return problem.task.predict(own.outputs(test)), figure

        first = {rate: made(some[0], rate, 0) for rate in RATES}
        rate = max(RATES, key=lambda r: first[r][1])
        guesses = [first[rate][0], *(made(rows, rate, k)[0] for k, rows in enumerate(some[1:], 1))]
        found.scores["finetune", budget] = scores(problem.task, np.stack(guesses), problem.targets)
    return found


@cache
def _bucket(word: str) -> int:
    return random.key("word", word) % BUCKETS


def hashed(text: str) -> np.ndarray:
    """(n,) buckets of a text's words and pairs of neighbours, in small letters."""
    codes = np.array([_bucket(word) for word in text.lower().split()] or [0], np.int64)
    return np.concatenate([codes, (codes[:-1] * _PRIME + codes[1:]) % BUCKETS])


class _Bag:
    """fastText's classifier: SGD on the mean vector and the linear layer, the rate falling to nothing."""

    def __init__(self, task: Task, rows: list[np.ndarray], targets: np.ndarray, rate: float, key: int):
        self.task = task
        used = np.unique(np.concatenate(rows))
        self.place = np.full(BUCKETS, -1)
        self.place[used] = np.arange(len(used))  # n-grams that no training row has get no vector
        index = torch.from_numpy(used)
        self.vectors = ((random.uniform(key, index, (WIDTH,)) * 2 - 1) / WIDTH).requires_grad_()
        self.weight = torch.zeros(WIDTH, task.outputs, requires_grad=True)
        self.bias = torch.zeros(task.outputs, requires_grad=True)
        kept, wanted = [self._known(r) for r in rows], torch.from_numpy(np.ascontiguousarray(targets))
        batches, epochs = -(-len(rows) // BATCH), EPOCHS[len(rows) > MANY]
        for epoch in range(epochs):
            order = random.permutation(random.key(key, "order", epoch), len(rows)).numpy()
            for k, some in enumerate(np.array_split(order, batches)):
                loss = task.loss(self._of([kept[r] for r in some]), wanted[torch.from_numpy(some)])
                step = rate * len(some) * (1 - (epoch * batches + k) / (epochs * batches))
                sparse, *grads = torch.autograd.grad(loss, [self.vectors, self.weight, self.bias])
                with torch.no_grad():
                    self.vectors.index_add_(0, sparse._indices()[0], sparse._values(), alpha=-step)
                    for value, grad in zip((self.weight, self.bias), grads):
                        value -= step * grad

    def _known(self, row: np.ndarray) -> np.ndarray:
        found = self.place[row]
        return found[found >= 0]

    def _of(self, rows: list[np.ndarray]) -> torch.Tensor:
        offsets = torch.from_numpy(np.cumsum([0, *map(len, rows)])[:-1])
        flat = torch.from_numpy(np.concatenate([*rows, np.zeros(0, np.int64)]))
        return F.embedding_bag(flat, self.vectors, offsets, mode="mean", sparse=True) @ self.weight + self.bias

    @torch.no_grad()
    def outputs(self, rows: list[np.ndarray]) -> np.ndarray:
        """(N, K) outputs of other rows."""
        return self._of([self._known(r) for r in rows]).double().numpy()


def told_clusters(texts: Sequence[str], clusters: np.ndarray, targets: np.ndarray, task: Task) -> list[dict]:
    """[{"cluster", "rows", "words", "class", "share"}]: the characteristic words of each cluster of the test rows, and its commonest class."""
    words, out = topics(texts, clusters), []
    for cluster in np.unique(clusters).tolist():
        own = targets[clusters == cluster]
        usual = np.bincount(own).argmax()
        out.append({
            "cluster": cluster, "rows": len(own), "words": words[cluster], "class": task.classes[usual],  # type: ignore[attr-defined]
            "share": round(float((own == usual).mean()), 4),
        })  # fmt: skip
    return out
