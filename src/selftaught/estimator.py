"""`Representation`: self-supervised pretraining as a scikit-learn transformer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data


class Representation(TransformerMixin, BaseEstimator):
    """Learns a representation of X without labels (`fit`) and gives it (`transform`).

    X: a 2-D array (rows are series of one channel, or images where `shape` says so), a 4-D uint8 array of images (N, H, W, C), or
    a list of texts.  Parameters are the names of `selftaught.pretrain`; exactly one of minutes, epochs, steps decides the budget.

    Attributes after `fit`: encoder_, modality_, n_features_in_ (2-D input), result_ (the numbers of `pretrain --json`).

    Example: make_pipeline(Representation(method="sparse-manifold", shape=(8, 8)), LogisticRegression()).fit(X, y)
    """

    def __init__(
        self, method=None, *, encoder=None, minutes=None, epochs=None, steps=None, shape=None, modality=None, options=None,
        recipe=None, out=None, random_state=0, device="cpu",
    ):  # fmt: skip
        self.method = method
        self.encoder = encoder
        self.minutes = minutes
        self.epochs = epochs
        self.steps = steps
        self.shape = shape
        self.modality = modality
        self.options = options
        self.recipe = recipe
        self.out = out
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def _rows(self, X, *, reset: bool):
        """X as the data that `pretrain` and `embed` take."""
        if isinstance(X, np.ndarray) and X.ndim == 4:
            return X
        if isinstance(X, list | tuple) and X and isinstance(X[0], str):
            return list(X)
        X = validate_data(self, X, reset=reset, dtype=np.float32, ensure_min_samples=2 if reset else 1)
        if self.shape is None:
            return [row[None] for row in X]
        if reset:
            self.range_ = (float(X.min()), float(X.max()))
        low, high = self.range_
        scaled = np.clip((X - low) / ((high - low) or 1.0) * 255, 0, 255).round().astype(np.uint8)
        return scaled.reshape(len(X), *self.shape)

    def fit(self, X, y=None):
        """Pretrains on X; y is ignored: labels never reach pretraining."""
        from .train import pretrain

        rows = self._rows(X, reset=True)
        seed = self.random_state if isinstance(self.random_state, int | np.integer) else 0
        with tempfile.TemporaryDirectory(prefix="selftaught-") as place:
            done = pretrain(
                rows, out=self.out or Path(place) / "run", method=self.method, encoder=self.encoder, minutes=self.minutes,
                epochs=self.epochs, steps=self.steps, seed=int(seed), device=self.device, options=self.options,
                recipe=self.recipe, modality=self.modality or self._modality(rows),
            )  # fmt: skip
            from . import modalities
            from .nets import store

            self.encoder_ = store.load_encoder(done.run.encoder)
            self.modality_ = modalities.load(done.run.encoder)
            self.result_ = done.result
        return self

    @staticmethod
    def _modality(rows) -> str:
        if isinstance(rows, np.ndarray):
            return "image"
        return "text" if isinstance(rows[0], str) else "series"

    def transform(self, X):
        """(N, D) float32 features, in eval mode."""
        check_is_fitted(self, "encoder_")
        from .data import Dataset
        from .evaluation import embed

        rows = self._rows(X, reset=False)
        return embed(self.encoder_, Dataset.from_arrays(rows, modality=self.modality_), device=self.device)

    def get_feature_names_out(self, input_features=None):
        """representation0, representation1, ..."""
        check_is_fitted(self, "encoder_")
        return np.asarray([f"representation{n}" for n in range(self.encoder_.dim)], dtype=object)
