"""Confidence: expected calibration error, and one temperature that lowers it (Guo et al. 2017, arXiv 1706.04599).  NumPy in."""

import numpy as np


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """ECE in [0, 1]: over `bins` equal bins of confidence, the mean |accuracy - confidence|, weighted by rows.

    `probabilities` (N, C), `labels` (N,) int.  Source: Guo et al., equation 3.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 that minimises the mean cross-entropy of logits (N, C) / T on rows not trained on.

    Bounded to [0.05, 20]: on rows that are all right, the likelihood alone would send T to 0.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))
    logits = np.asarray(logits, dtype=np.float64)

    def loss(log_t: float) -> float:
        return -float(log_softmax(logits / np.exp(log_t), axis=1)[rows, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, C) softmax of logits / temperature, in float64."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The chance of each of several labels: 1 / (1 + exp(-logits / temperature)), in float64."""
    from scipy.special import expit

    return expit(np.asarray(logits, dtype=np.float64) / temperature)


def as_pairs(logits: np.ndarray) -> np.ndarray:
    """(N K, 2) logits of no and yes for each of several labels (N, K): what the figures above are asked of them with."""
    flat = np.asarray(logits, dtype=np.float64).reshape(-1)
    return np.stack([np.zeros_like(flat), flat], 1)
