"""One file = one pretext task.  Here: which there are, and which kinds of data each can carry."""

from __future__ import annotations

import sys
from typing import Any, cast

from .. import modalities
from ..core import ClosedForm, Encoder, Method, module
from ..core import find as finder
from ..core.errors import RequestError

Kind = type[Method] | type[ClosedForm]
KINDS = (Method, ClosedForm)

OFFERED = {
    "augment": "views that change an example and keep what it is",
    "local": "small crops that still show what it is",
    "turn": "quarter turns that a reader could tell apart",
    "tiles": "tiles that have a place in the whole",
    "colour": "colours apart from lightness",
    "pixels": "pixels that can be painted",
    "values": "numbers that a token can be predicted as",
    "target": "something that a token can be predicted as",
    "vocabulary": "tokens of a vocabulary",
    "pairs": "two examples that can be joined in one and told apart",
    "patches": "patches of one size",
    "words": "words that stand in an order",
    "drawn": "rows that can be drawn",
    "delete": "tokens that can be left out, the rest closing up",
    "sound": "sounds, with their waves",
}
"""What a modality may offer, in words."""
ABLE = {
    "tokens": "works on tokens",
    "mask": "takes a part of the tokens",
    "causal": "reads from left to right",
    "stages": "gives more than one stage",
    "stem": "hears waves through a convolutional stem",
}
"""What an encoder may be able to do, in words."""


def names() -> list[str]:
    """The methods' names, in alphabetical order, without importing any."""
    return list(finder.names(__name__))


def find(name: str) -> Kind:
    """The class of a method's name, of its spelling with underscores, or of one of its aliases; RequestError tells the nearest."""
    return cast(Kind, finder.find(__name__, name, KINDS, "method"))


def name_of(method: Kind) -> str:
    """The name under which a class is found."""
    return next(name for name, cls in _methods().items() if cls is method)


def fits(method: Kind | Method | ClosedForm, modality: Any) -> str | None:
    """None where `method` (a class, or one with its options) can learn from `modality` (a class, an object of it or its name); else why
    not and what can."""
    kind = modalities.find(modality) if isinstance(modality, str) else modality
    missing = sorted(method.needs & OFFERED.keys() - kind.offers)
    if not missing:
        return None
    wanted = " and ".join(f"{name!r} ({OFFERED[name]})" for name in missing)
    able = [m.name for m in _modalities() if method.needs & OFFERED.keys() <= m.offers]
    run = [name for name, cls in _methods().items() if cls.needs & OFFERED.keys() <= kind.offers]
    return (
        f"{name_of(method if isinstance(method, type) else type(method))} cannot learn from {kind.name}: it needs {wanted}, which {kind.name} does not offer.\n"
        f"  Kinds of data that do: {', '.join(able) or 'none'}.  Methods for {kind.name}: {', '.join(run) or 'none'}."
    )


def check(method: Kind | Method | ClosedForm, encoder: Encoder) -> None:
    """RequestError where `encoder` cannot do what `method` asks of it, or has nothing that a gradient could change."""
    if not any(p.requires_grad for p in encoder.parameters()):
        raise RequestError(
            f"{name_of(method if isinstance(method, type) else type(method))} trains by gradient, and {encoder.kind} has no parameter to train: it is worked out in closed form.",
            "Use it as it is (evaluate, embed, predict), or leave --encoder out; a network that learns from it: --method distil --teacher RUN; "
            "one whose first filters are patches of your data: --encoder resnet-small --set encoder_options.start=atoms.",
        )
    missing = sorted(method.needs & ABLE.keys() - encoder.can)
    if missing:
        raise RequestError(
            f"{name_of(method if isinstance(method, type) else type(method))} needs an encoder that {' and '.join(ABLE[m] for m in missing)}; {encoder.kind} is none.",
            "Leave --encoder out, or take one with tokens (for images a ViT).",
        )


def _methods() -> dict[str, Kind]:
    return cast(dict[str, Kind], finder.everything(__name__, KINDS))


def _modalities() -> list[Any]:
    return [modalities.find(name) for name in modalities.names()]


def describe(method: Kind) -> dict[str, Any]:
    """What `selftaught methods --json` prints of one method."""
    return {
        "name": name_of(method),
        "family": method.family,
        "paper": method.paper,
        "modalities": [m.name for m in _modalities() if fits(method, m) is None],
        "needs": sorted(method.needs),
        "closed_form": method.closed_form,
    }


def grid() -> list[dict[str, Any]]:
    """`describe` of every method: method x modality, from the code."""
    return [describe(cls) for cls in _methods().values()]


def page(method: Kind) -> str:
    """All about one method as text: its file's docstring, its options with their defaults, what it asks for and where it runs."""
    row = describe(method)
    text = (sys.modules[method.__module__].__doc__ or "").strip()
    docs, defaults = module.option_docs(method), module.options(method())
    options = [f"  {name} = {value!r}: {docs.get(name, '')}" for name, value in defaults.items()]
    needs = [OFFERED.get(n) or f"an encoder that {ABLE[n]}" for n in row["needs"]]
    lines = [
        f"{row['name']} ({row['family']})" + (f", also: {', '.join(method.aliases)}" if method.aliases else ""),
        "", text, "", "Options:", *(options or ["  none"]), "",
        f"Needs: {'; '.join(needs) or 'nothing'}.", f"Runs on: {', '.join(row['modalities']) or 'nothing yet'}.",
    ]  # fmt: skip
    return "\n".join(lines)
