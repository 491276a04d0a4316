"""What HuBERT's frames are labelled by: clusters of cepstra at first, later of an inner layer of the encoder as it then stood."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ..core import RequestError, View
from .cepstra import Cepstra
from .dictionary import Dictionary
from .ragged import Layout
from .teacher import Teacher
from .wav2vec2 import Wav2Vec2


class Units(nn.Module):
    """A view -> (M,) int64, the cluster of each frame of the encoder, one behind the other.

    Which iteration's follows from the share of the run that has passed.  `begin` keeps the encoder as it is, `fit` forms the clusters; both change buffers
    alone (and parameters without gradient), so that a checkpoint holds them.  Labels stand in the encoder's own frames: as many, and as far apart.
    """

    def __init__(self, encoder: Wav2Vec2, clusters: int, iterations: int, layer: int):
        super().__init__()
        if not 0 <= layer <= encoder.depth or iterations < 1 or clusters < 2:
            raise RequestError(
                f"layer {layer} of {encoder.depth}, {iterations} iterations and {clusters} clusters cannot be.",
                f"Give a layer from 1 to {encoder.depth} (0: the middle), one iteration or more, two clusters or more.",
            )
        self.iterations, self.block = iterations, layer or (encoder.depth + 1) // 2
        self.cepstra = Cepstra(encoder.rate, encoder.hop)
        self.heard = Dictionary(clusters, self.cepstra.width)
        self.inner = Dictionary(clusters, encoder.dim) if iterations > 1 else None
        self.teacher = Teacher(encoder) if iterations > 1 else None
        self.register_buffer("formed", torch.tensor(1))

    def number(self, progress: float) -> int:
        """The iteration, from 1, in which a run is after this share of it."""
        return min(self.iterations, 1 + int(progress * self.iterations + 1e-9))

    def dictionary(self, number: int) -> Dictionary:
        """The clusters of an iteration."""
        return self.heard if number == 1 or self.inner is None else self.inner

    @torch.no_grad()
    def features(self, view: View, progress: float, frames: Tensor) -> tuple[Tensor, Layout]:
        """((M, 39 or width) what frames are clustered by; how they lie), of clips that have `frames` (B,) of them."""
        if self.number(progress) == 1 or self.teacher is None:
            layout = Layout.of(frames)
            found = self.cepstra(view["wave"], view["length"])
            return layout.pack(found[:, : layout.valid.shape[1]]), layout
        kept = self.teacher.net
        heard, layout = kept.stem(view)  # type: ignore[operator]
        return kept.context(kept.projected(heard)[1], layout, self.block)[-1], layout  # type: ignore[operator]

    def forward(self, view: View, progress: float, frames: Tensor) -> Tensor:
        return self.dictionary(self.number(progress))(self.features(view, progress, frames)[0])

    def begin(self, encoder: Wav2Vec2) -> None:
        """Keeps the encoder as it is now: what the coming iteration's features are made by."""
        if self.teacher is not None:
            self.teacher.net.load_state_dict(encoder.state_dict())

    def fit(self, features: Tensor, progress: float, *, key: int) -> None:
        """Forms the clusters of the iteration that begins (see Dictionary.fit)."""
        self.dictionary(self.number(progress)).fit(features, key=key)
        self.get_buffer("formed").fill_(self.number(progress))

    def kept(self) -> tuple[Dictionary, dict]:
        """The last clusters that were formed, and what they are of, as plain data."""
        number = int(self.get_buffer("formed"))
        dictionary = self.dictionary(number)
        spec = self.cepstra.spec()
        if number > 1:
            spec = {
                "kind": "output of a block of the encoder as it stood when the iteration began",
                "block": self.block,
            }
        about = {"iteration": number, "features": spec, "sha256": dictionary.fingerprint()}
        return dictionary, {**about, "perplexity": dictionary.perplexity}
