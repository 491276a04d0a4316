"""The embedding map and nearest neighbours: a sample of rows, laid out in two dimensions, with a thumbnail each."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import random
from ..train.pictures import row_picture, seen

SAMPLE = 800
QUERIES = 8
NEIGHBOURS = 7
THUMBNAIL = 48
AT_ONCE = 64
SHADES = 48
"""Colours of a thumbnail: a page holds hundreds of them."""


@dataclass
class Atlas:
    """xy (N, 2) in 0-1; pictures: data URIs or None; texts; labels: class names or None; neighbours (Q, 1 + K) row numbers, the query first."""

    xy: NDArray
    pictures: list[str | None]
    texts: list[str]
    labels: list[str] | None
    neighbours: NDArray
    how: str


def sample(rows: int, seed: int) -> NDArray:
    """At most SAMPLE row numbers, in order."""
    return np.sort(random.permutation(random.key(seed, "atlas"), rows)[:SAMPLE].numpy())


def build(features: NDArray, data, index: NDArray, labels: list[str] | None, *, seed: int) -> Atlas:
    """features (N, D) of the rows `index` of `data`."""
    xy, how = layout(features, seed)
    pictures, texts = [], []
    for some in np.split(index, range(AT_ONCE, len(index), AT_ONCE)):  # recordings of a minute each are large
        view = data.fetch(some)
        visible = seen(view, data.modality)
        pictures += [thumbnail(visible, row) for row in range(len(some))]
        texts += [caption(view, row, name, data.modality) for row, name in enumerate(data.names(some))]
    return Atlas(xy, pictures, texts, labels, nearest(features, seed), how)


def layout(features: NDArray, seed: int) -> tuple[NDArray, str]:
    """(N, 2) in 0-1 and the name of the way: UMAP where it is installed (extra `report`), else t-SNE; few rows: PCA."""
    from sklearn.decomposition import PCA

    scale = features.std(0)
    x = (features - features.mean(0)) / np.where(scale > 1e-6, scale, 1.0)
    x = PCA(min(50, *x.shape), random_state=seed).fit_transform(x) if min(x.shape) > 2 else x
    if len(x) < 40:
        xy, how = x[:, :2], "PCA"
    else:
        try:
            import umap

            xy, how = umap.UMAP(random_state=seed, n_jobs=1).fit_transform(x), "UMAP"
        except ImportError:
            from sklearn.manifold import TSNE

            xy, how = TSNE(random_state=seed, init="pca", perplexity=min(30, len(x) / 4)).fit_transform(x), "t-SNE"
    xy = np.pad(xy, ((0, 0), (0, 2 - xy.shape[1]))) if xy.shape[1] < 2 else xy
    span = np.ptp(xy, axis=0)
    return (xy - xy.min(0)) / np.where(span > 0, span, 1.0), how


def nearest(features: NDArray, seed: int) -> NDArray:
    """(Q, 1 + K): queries drawn by the seed, not chosen, each followed by its nearest rows by cosine."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    queries = random.permutation(random.key(seed, "queries"), len(unit))[:QUERIES].numpy()
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : 1 + NEIGHBOURS]


def thumbnail(view, row: int) -> str | None:
    """A data URI of an image, of a series' curves or of a sound's energies; None for text."""
    side = min(THUMBNAIL, max(view["pixels"].shape[2:])) if "pixels" in view.parts else THUMBNAIL
    picture = row_picture(view, row, side)
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.quantize(SHADES).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def caption(view, row: int, name: str, modality) -> str:
    """The row's name, and the beginning of its text where it has one."""
    words = getattr(modality, "words", None)
    return f"{name}: {words(view, row)[:160]}" if words else str(name)
