"""What drivers declare of their reaction times holds on the physics: every limit, every channel."""

from __future__ import annotations

import math

import pytest
from tests.reactions import CASES, CHANNELS, KILLED, PRESSES, worst

pytestmark = pytest.mark.long

#: Two moments between readings; docs/make_reaction_times.py takes more.
PHASES_S = (0.37, 2.24)


@pytest.mark.parametrize("limit", [*CASES, KILLED])
@pytest.mark.parametrize("driver", CHANNELS)
def test_a_cell_is_off_within_the_declared_time(driver: str, limit: str) -> None:
    measured = worst(driver, limit, PHASES_S)
    assert measured.kept, measured
    # Of one channel nothing is promised when its computer dies: planning refuses it.
    assert math.isfinite(measured.off_s) == (driver != "keithley_2400" or limit != KILLED)


@pytest.mark.parametrize("limit", ["stack pressure", "lost load cell"])
@pytest.mark.parametrize("press", PRESSES)
def test_a_press_lets_go_within_the_declared_time(press: str, limit: str) -> None:
    measured = worst(press, limit, PHASES_S)
    assert measured.kept, measured
