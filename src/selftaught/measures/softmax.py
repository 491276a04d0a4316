"""One multinomial logistic regression at many strengths, by scikit-learn: the linear probe where there are many rows.

The objective is that of logistic.py, which solves many small problems at once: two classes have the symmetric softmax here too.
"""

from __future__ import annotations

import warnings

import numpy as np

ABSENT = -1e4
"""Intercept of a class without rows: it is never predicted."""


class Softmax:
    """C sum_i cross-entropy_i + |W|^2 / 2 over rows (N, R) and labels (N,) in [0, classes); each fit starts from the last."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int):
        from sklearn.linear_model import LogisticRegression

        self.rows, self.labels, self.classes = rows, labels, classes
        self.present = np.unique(labels)
        self.model = LogisticRegression(warm_start=True, max_iter=1000)

    def at(self, strength: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Weight (R, K) and intercept (K,) float64 at C = `strength`; scikit-learn stops where no gradient entry is above `tolerance`.

        Cost: about 4 N R K operations a step of limited-memory BFGS, some tens to hundreds of steps.
        """
        weight, intercept = np.zeros((self.rows.shape[1], self.classes)), np.full(self.classes, ABSENT)
        if len(self.present) == 1:
            intercept[self.present] = 0.0
            return weight, intercept
        two = len(self.present) == 2
        # One vector w for two classes is the symmetric pair (-w/2, w/2), whose penalty is half of scikit-learn's.
        self.model.set_params(C=strength * (2 if two else 1), tol=tolerance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged after 1000 steps: as good a read-out as the path needs
            self.model.fit(self.rows, self.labels)
        coef, bias = self.model.coef_, self.model.intercept_
        if two:
            coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
        weight[:, self.present], intercept[self.present] = coef.T, bias - bias.mean()
        return weight, intercept
