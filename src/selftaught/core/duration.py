"""How long: `--minutes`, `--epochs` or `--steps`, one type for all of them."""

import math
from dataclasses import dataclass
from typing import Literal

from .errors import RequestError

Unit = Literal["minutes", "epochs", "steps"]


@dataclass(frozen=True)
class Duration:
    """`value` minutes, epochs or steps.  Minutes become a step horizon once, after a calibration (train/calibrate)."""

    value: float
    unit: Unit

    def __post_init__(self):
        if self.unit not in ("minutes", "epochs", "steps"):
            raise RequestError(f"{self.unit!r} is no unit of time.", "Accepted: minutes, epochs, steps.")
        if not math.isfinite(self.value) or self.value < 0:
            raise RequestError(f"--{self.unit} {self.value} is not a duration.", "Give a number that is not negative.")
        if self.unit == "steps" and self.value != int(self.value):
            raise RequestError(f"--steps {self.value} is not a whole number.", "Give a whole number of steps.")

    @classmethod
    def of(cls, *, minutes=None, epochs=None, steps=None, default: "Duration | None" = None) -> "Duration":
        """The one that is given; two at once is an error."""
        given = [(v, u) for v, u in ((minutes, "minutes"), (epochs, "epochs"), (steps, "steps")) if v is not None]
        if len(given) > 1:
            raise RequestError(
                "Only one of --minutes, --epochs and --steps can hold.",
                f"Leave out --{given[1][1]} or --{given[0][1]}.",
            )
        if not given and default is None:
            raise RequestError("No duration was given.", "Say --minutes, --epochs or --steps.")
        return cls(*given[0]) if given else default  # type: ignore[arg-type, return-value]

    def steps(self, rows: int, batch: int, seconds_per_step: float | None = None) -> int:
        """The step horizon: an epoch is `rows // batch` steps (at least one); minutes need the measured step time."""
        if self.unit == "steps":
            return int(self.value)
        if self.unit == "epochs":
            return math.ceil(self.value * max(1, rows // batch))
        if seconds_per_step is None:
            raise ValueError("minutes become steps only with a measured step time")
        return max(1, int(60 * self.value / seconds_per_step))

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit if self.value != 1 else self.unit[:-1]}"
