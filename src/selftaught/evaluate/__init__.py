"""Embedding, the protocol with its controls, statistics, the verdict; finetuning under the protocol, and prediction."""

from .embed import embed, embed_layers, model_hash
from .embed_files import Embedded, embed_to
from .evaluate import evaluate

__all__ = ["Embedded", "embed", "embed_layers", "embed_to", "evaluate", "model_hash"]
