"""Pellets on the simulated bench: what the library's protocols do to the powder."""

from __future__ import annotations

import pytest
from tests.engine.conftest import Runner

from cellbench import library


@pytest.mark.parametrize(
    ("force", "hold", "pressure_MPa"), [("3 t", "1 min", 374.6), ("300 MPa", "5 min", 300.0)]
)
def test_the_powder_feels_the_pressure_of_the_study_and_is_let_go(
    run: Runner, force: str, hold: str, pressure_MPa: float
) -> None:
    text = library.find_protocol("pelletize").read_text(encoding="utf-8")
    text = text.replace("force: 3 t", f"force: {force}").replace("hold: 1 min", f"hold: {hold}")
    ran = run(text, cell="Li6PS5Cl_blocking")
    assert ran.end.reason == "every step has ended"
    assert "deviation" not in ran.kinds()
    world = ran.simulator.world
    assert world.force_N() == 0.0
    pellet = world.cell.pellet
    assert pellet.highest_pressure_Pa == pytest.approx(pressure_MPa * 1e6, rel=0.01)
    assert ran.end.run.bench == "simulated Li6PS5Cl_blocking, fixture: laboratory press"
