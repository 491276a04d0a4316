"""Self-supervised learning on anyone's own data: pretrain, say honestly whether it helped, adapt, hand over.

Names are loaded when they are first asked for, so that `import selftaught` is instant.
"""

import importlib

__version__ = "0.1.0"

_NAMES = {
    "pretrain": "train", "resume": "train", "Run": "train", "finetune": "evaluation", "evaluate": "evaluation", "cluster": "evaluation", "compare": "evaluation", "embed": "evaluation",
    "generate": "evaluation", "predict": "evaluation", "search": "evaluation", "words": "evaluation", "open_data": "modalities", "load": "nets",
    "Representation": "estimator", "Encoder": "core",
    "Method": "core", "ClosedForm": "core", "Progress": "cli.screen",
}  # fmt: skip
_ROOMS = ("methods", "tasks", "nets", "export", "report", "modalities", "measures")

__all__ = [*_NAMES, *_ROOMS]  # noqa: PLE0604


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
