"""Hundreds of cycles: what is left of the capacity, and when a symmetric cell ends.

Retentions and cycle numbers are entered by fitted constants, none emerges. Where a study gives
only a lower bound (3C, 2C) or nothing (capacity at 4.8 V, at 2 MPa), the expected value is the
model's own.
"""

from collections.abc import Callable
from typing import Any

import pytest

from cellbench_sim.world import World

pytestmark = pytest.mark.slow

FullCells = Callable[..., Any]


def cycles_to_short(world: World, at_most: int) -> int | None:
    """Cycle at 0.5 mA/cm2, 30 min per half-cycle."""
    assert world.cell.shunt is not None
    for cycle in range(at_most):
        for sign in (1, -1):
            world.apply_current(sign * 5.0 * world.cell.area_m2)
            world.advance_to(world.time_s + 1800.0)
        if world.cell.shunt.collapse.begun:
            return cycle + 1
    return None


def test_bare_lyc_ends_after_300_cycles_its_polarisation_rising_before(
    pressed_world: Callable[..., World],
) -> None:
    world = pressed_world("LYC")
    assert cycles_to_short(world, 100) is None
    early_V = abs(world.terminals()[0])
    assert cycles_to_short(world, 190) is None
    late_V = abs(world.terminals()[0])

    assert late_V > 1.4 * early_V
    assert cycles_to_short(world, 60) is not None


def test_coated_lyc_is_flat_for_1400_cycles(pressed_world: Callable[..., World]) -> None:
    world = pressed_world("LYC_PMMA")
    assert cycles_to_short(world, 10) is None
    early_V = abs(world.terminals()[0])

    assert cycles_to_short(world, 1390) is None
    assert abs(world.terminals()[0]) < 1.15 * early_V


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "one_c", "c_rate", "high_V", "cycles", "first", "retention"),
    [
        ("NCM85_InLi", 180.0, 0.2, 3.68, 600, 198.0, 0.90),
        ("NCM85_InLi", 180.0, 0.5, 4.18, 110, 238.0, 0.95),
        ("NCM85_InLi_3C", 180.0, 3.0, 3.68, 3000, 86.0, 0.87),
        ("NCM85_InLi_2C", 180.0, 2.0, 3.68, 1800, 155.0, 0.95),
        ("NCM622_InLi", 180.0, 0.2, 3.98, 320, 194.0, 0.935),
        ("NMC811_sulfide_low_pressure", 200.0, 2.0, 3.68, 1000, 158.0, 0.9627),
    ],
)
def test_retention_of_the_studies(
    full_cell: FullCells,
    name: str,
    one_c: float,
    c_rate: float,
    high_V: float,
    cycles: int,
    first: float,
    retention: float,
) -> None:
    cell = full_cell(name, one_c)
    discharged = [cell.cycle(c_rate, 2.18, high_V)[1] for _ in range(cycles)]

    assert discharged[1] == pytest.approx(first, rel=0.05)
    assert discharged[-1] / discharged[1] == pytest.approx(retention, abs=0.01)
