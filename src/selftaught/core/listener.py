"""Where a job says what it does: silent by default; the command line draws, a notebook prints, `--json` keeps stdout clean."""

import sys
import time


class Listener:
    """Hears what a job says; this one stays silent.  Read-only: nothing it does can change a result."""

    def say(self, text: str) -> None:
        """A sentence worth a line: a choice with its reason, an alarm, a warning."""

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        """How far `stage` ("packing", "fitting", "embedding", "probing", ...) is; done == total ends it."""

    def moment(self, moment) -> None:
        """A step of the training loop (train.observe.Moment)."""

    def finish(self) -> None:
        """The job is over, well or not: put the screen back in order."""


class PlainLines(Listener):
    """Plain lines on stderr, at most one every few seconds: for logs, pipes and notebooks without widgets."""

    def __init__(self, every: float = 5.0, stream=None):
        self.every, self.stream = every, stream
        self._last: dict[str, float] = {}

    def say(self, text: str) -> None:
        print(text, file=self.stream or sys.stderr, flush=True)

    def _due(self, stage: str, last: bool) -> bool:
        now = time.monotonic()
        if not last and now - self._last.get(stage, now - self.every / 2) < self.every:
            self._last.setdefault(stage, now)
            return False
        self._last[stage] = now
        return True

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        if self._due(stage, done >= total):
            share = done / total if total else 1.0
            self.say(f"{stage}: {share:.0%}{f' ({note})' if note else ''}")

    def moment(self, moment) -> None:
        if self._due("step", moment.step >= moment.horizon):
            self.say(
                f"step {moment.step}/{moment.horizon}  loss {moment.loss:.4f}  {moment.examples_per_second:.0f} examples/s  "
                f"data wait {moment.data_wait:.0%}  {moment.time_left:.0f} s left"
            )
