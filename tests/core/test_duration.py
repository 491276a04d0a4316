"""Duration: what each unit means in steps, and what is refused."""

import math

import pytest

from selftaught.core import Duration, RequestError


@pytest.mark.parametrize(
    ("duration", "rows", "batch", "seconds", "steps"),
    [
        (Duration(7, "steps"), 10, 4, None, 7),
        (Duration(0, "steps"), 10, 4, None, 0),
        (Duration(3, "epochs"), 100, 32, None, 9),
        (Duration(0.5, "epochs"), 100, 10, None, 5),
        (Duration(2, "epochs"), 5, 64, None, 2),  # fewer rows than a batch: an epoch is one step
        (Duration(2, "minutes"), 100, 10, 0.5, 240),
        (Duration(0, "minutes"), 100, 10, 0.5, 1),
    ],
)
def test_steps(duration, rows, batch, seconds, steps):
    assert duration.steps(rows, batch, seconds) == steps


def test_minutes_need_a_measured_step():
    with pytest.raises(ValueError, match="measured"):
        Duration(1, "minutes").steps(10, 2)


@pytest.mark.parametrize(
    ("value", "unit"), [(-1, "steps"), (math.nan, "minutes"), (math.inf, "epochs"), (1.5, "steps"), (1, "hours")]
)
def test_refused(value, unit):
    with pytest.raises(RequestError) as error:
        Duration(value, unit)
    assert error.value.remedy


def test_of_takes_one_and_only_one():
    assert Duration.of(minutes=2) == Duration(2, "minutes")
    assert Duration.of(default=Duration(1, "epochs")) == Duration(1, "epochs")
    assert Duration.of(steps=0) == Duration(0, "steps")
    with pytest.raises(RequestError, match="Only one"):
        Duration.of(minutes=1, steps=3)
    with pytest.raises(RequestError, match="No duration"):
        Duration.of()


def test_text():
    assert [str(d) for d in (Duration(1, "epochs"), Duration(2.5, "minutes"), Duration(100, "steps"))] == [
        "1 epoch",
        "2.5 minutes",
        "100 steps",
    ]
