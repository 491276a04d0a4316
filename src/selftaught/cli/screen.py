"""Progress for people: rich bars on a terminal or in a notebook, plain lines elsewhere, nothing with --quiet."""

import os
import sys

from ..core.listener import Listener, PlainLines


class Progress(Listener):
    """Bars drawn by rich on stderr; in a notebook rich draws a widget.  One bar a stage, one for the training loop."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), TaskProgressColumn(), TimeElapsedColumn())
        self.bars = Bars(
            *columns, TextColumn("{task.fields[note]}"), console=self.console, refresh_per_second=4, transient=False
        )
        self.tasks: dict[str, int] = {}

    def say(self, text: str) -> None:
        style = "bold red" if text.startswith("ALARM") else None
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _task(self, stage: str, total: float) -> int:
        if stage not in self.tasks:
            self.bars.start()
            self.tasks[stage] = self.bars.add_task(stage, total=total, note="")
        return self.tasks[stage]

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        self.bars.update(self._task(stage, total), completed=done, total=total, note=note)  # type: ignore[arg-type]

    def moment(self, moment) -> None:
        note = (
            f"loss {moment.loss:.3f}  {moment.examples_per_second:,.0f} ex/s  wait {moment.data_wait:.0%}"
            f"  {_clock(moment.time_left)} left"
        )
        if moment.effective_rank is not None:
            note += f"  rank {moment.effective_rank:.0f}"
        self.bars.update(self._task("training", moment.horizon), completed=moment.step, total=moment.horizon, note=note)  # type: ignore[arg-type]

    def finish(self) -> None:
        self.bars.stop()
        self.tasks.clear()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    return f"{minutes}:{seconds:02d}"


def listener(*, quiet: bool = False) -> Listener:
    """The listener for this process: rank 0 alone speaks."""
    if quiet or int(os.environ.get("RANK", "0")) > 0:
        return Listener()
    return Progress() if sys.stderr.isatty() else PlainLines()
