"""Types only: what methods, encoders, modalities and the loop agree on.  Depends on torch and the standard library."""

from .batch import Batch, Draw, Labelled, Ragged, Target, Tokens, Transform, View
from .duration import Duration
from .encoder import Encoder, Paired, clean, encode
from .errors import AlarmError, DataError, ModelError, RequestError, SelftaughtError
from .method import ClosedForm, Facts, Kept, Method, Recipe, ViewSpec
from .sheet import Sheet

__all__ = [
    "AlarmError", "Batch", "ClosedForm", "DataError", "Draw", "Duration", "Encoder", "Facts", "Kept", "Labelled",
    "Method", "ModelError", "Paired", "Ragged", "Recipe", "RequestError", "SelftaughtError", "Sheet", "Target", "Tokens", "Transform",
    "View", "ViewSpec", "clean", "encode",
]  # fmt: skip
