"""Pure functions on features: the loop's alarms and the evaluation share them."""

from .calibration import as_pairs, calibration_error, fit_temperature, probabilities, sigmoid
from .clustering import agreement, kmeans, matching, spherical_kmeans
from .correlation import pearson, spearman
from .geometry import alignment, uniformity
from .language import bits_per_byte, perplexity, unigram_nats
from .linear import Linear, Scale, fit, fit_draws
from .neighbours import knn_classify, knn_regress, nearest, view_recall
from .ranking import average_precision, label_ranking, ranked_above
from .retrieval import retrieve
from .sets import fit_sets, fit_sets_draws
from .spectrum import dead_dimensions, effective_rank, mean_cosine, participation, top_eigenvalue_share

__all__ = [
    "Linear", "Scale", "agreement", "alignment", "as_pairs", "average_precision", "bits_per_byte", "calibration_error", "dead_dimensions", "effective_rank", "fit",
    "fit_draws", "fit_sets", "fit_sets_draws", "fit_temperature", "kmeans", "knn_classify", "knn_regress", "label_ranking", "matching", "mean_cosine", "nearest",
    "participation", "pearson", "perplexity", "probabilities", "ranked_above", "retrieve", "sigmoid", "spearman", "spherical_kmeans", "top_eigenvalue_share", "uniformity",
    "unigram_nats", "view_recall",
]  # fmt: skip
