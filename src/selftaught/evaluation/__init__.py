"""Embedding, the protocol with its controls, statistics, the verdict; finetuning under the protocol, and prediction."""

from .adapt import Finetuned, finetune
from .cluster import Clustered, cluster
from .compare import compare
from .embed import embed, embed_layers
from .embed_files import Embedded, embed_to
from .evaluate import evaluate
from .generate import Generated, generate
from .label_curve import label_curve
from .predict import load_model, predict
from .search import search
from .similarity import similarity
from .words import words

__all__ = [
    "Clustered", "Embedded", "Finetuned", "Generated", "cluster", "compare", "embed", "embed_layers", "embed_to", "evaluate", "finetune", "generate", "label_curve", "load_model",
    "predict", "search", "similarity", "words",
]  # fmt: skip
