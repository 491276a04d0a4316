"""Errors that a person can act on: each names the value, what is accepted and the remedy, and carries an exit code."""

import difflib
from collections.abc import Iterable


class SelftaughtError(Exception):
    """An error with a remedy.  `kind` and `code` are what `--json` and the shell see (docs/architecture.md, exit codes)."""

    kind = "error"
    code = 1

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message if not remedy else f"{message}\n  {remedy}")
        self.message = message
        self.remedy = remedy

    def __reduce__(self):  # keeps both texts when the error crosses a process border
        return type(self), (self.message, self.remedy)


class RequestError(SelftaughtError):
    """The request cannot be carried out as put: an unknown name, options that exclude one another, a refused pair."""

    kind = "request"
    code = 2


class DataError(SelftaughtError):
    """The data are missing, empty, broken beyond `--max-bad`, or not what was said of them."""

    kind = "data"
    code = 3


class ModelError(SelftaughtError):
    """A model folder or checkpoint is broken, of another version, or refused because it is not safe to load."""

    kind = "model"
    code = 4


class AlarmError(SelftaughtError):
    """A run that noticed it could not go on (non-finite loss for several steps, for example) and stopped."""

    kind = "alarm"
    code = 5


def nearest(name: str, accepted: Iterable[str], what: str) -> RequestError:
    """The error for an unknown `name`: lists what is accepted and the nearest match."""
    accepted = sorted(accepted)
    close = difflib.get_close_matches(name, accepted, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return RequestError(f"{name!r} is no {what}.", f"{hint}Accepted: {', '.join(accepted)}.")
