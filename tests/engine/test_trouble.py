"""Instruments that fail a run and come back, or do not: what the run does, seen on the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cellbench.engine.run import RunState
from cellbench.errors import TransportClosed

Runner = Callable[..., Any]
Pull = Callable[["Cable"], None]

STEPS = """
  - press: {to: 5 MPa, ramp: 0.05 MPa/s, settle: {within: 0.3 MPa, for: 60 s}}
  - rest: 15 min
  - eis: {from: 1 MHz, to: 0.05 Hz, points: 5 per decade, amplitude: 10 mV}
  - current: {at: 0.3 mA/cm2, for: 15 min}
  - press: release
"""
PROTOCOL = "cellbench: 1\nname: A test\nsteps:\n" + STEPS
#: What is under way when the cable is pulled: its step, and how long into it.
DURING = {
    "press ramp": ("press", 40.0),
    "settle": ("press", 115.0),
    "rest": ("rest", 60.0),
    "constant current": ("current", 60.0),
    "spectrum": ("eis", 20.0),
}
INSTRUMENTS = ("potentiostat", "press", "load cell", "chamber")
LONG_S = 300.0


@dataclass
class Cable:
    """The cable of one instrument on the simulated bench."""

    device: Any
    stream: Any

    def pull(self) -> None:
        """The port is gone."""

        async def refuse() -> None:
            raise TransportClosed("no such port")

        self.device.hang_up()
        self.stream._open_anew = refuse

    def silence(self) -> None:
        """Nothing gets through, either way; whoever connects again does not notice."""
        self.device.line.silent = True

    def garble(self) -> None:
        """All that the instrument sends comes in as something else."""
        self.device.line.garble = lambda data: bytes(byte ^ 0x15 for byte in data)

    def mend(self) -> None:
        """Everything is as it was."""
        self.stream.__dict__.pop("_open_anew", None)
        self.device.line.silent, self.device.line.garble = False, None


@dataclass
class Outage:
    """Pulls a cable during a step, mends it, and looks at the cell meanwhile.

    Attributes:
        current_A: Of the simulated cell, late in the outage.
        holds: Why the run was held then.
        pressure_Pa: On the stack.
    """

    instrument: str
    step: str
    after_s: float
    length_s: float | None
    pull: Pull = Cable.pull
    current_A: float | None = None
    holds: dict[str, str] = field(default_factory=dict)
    pressure_Pa: float = 0.0

    async def __call__(self, simulator: Any, bench: Any, conductor: Any) -> None:
        cable = Cable(simulator.instruments[self.instrument], bench.streams[self.instrument])
        while conductor.status.step_path != self.step:
            await asyncio.sleep(0.5)
        await asyncio.sleep(self.after_s)
        self.pull(cable)
        if self.length_s is None:
            await asyncio.sleep(LONG_S)
            self._look(simulator, conductor)
            return
        await asyncio.sleep(0.9 * self.length_s)
        self._look(simulator, conductor)
        await asyncio.sleep(0.1 * self.length_s)
        cable.mend()

    def _look(self, simulator: Any, conductor: Any) -> None:
        world = simulator.world
        world.advance_to(simulator._timebase.now())
        self.current_A = world.terminals()[1]
        self.pressure_Pa = world.stack_pressure_Pa()
        self.holds = conductor.steering.holds


def outage(instrument: str, during: str, length_s: float | None, pull: Pull = Cable.pull) -> Outage:
    step, after_s = DURING[during]
    return Outage(instrument, step, after_s, length_s, pull)


def ended(ran: Any) -> dict[str, dict[str, float]]:
    """Results of the steps that came to their end, by path."""
    return {
        entry.step: entry.data["results"]
        for entry in ran.reader.journal
        if entry.kind == "step ended" and entry.data["ending"] != "interrupted"
    }


def spectrum_of(ran: Any) -> dict[str, float]:
    (found,) = [entry.data for entry in ran.reader.journal if entry.kind == "spectrum"]
    return dict(found)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.engine.conftest import Runner as Runs  # noqa: PLC0415

    return Runs(tmp_path_factory.mktemp("undisturbed"))(PROTOCOL)


def assert_as_undisturbed(ran: Any, undisturbed: Any) -> None:
    assert ran.end.state is RunState.COMPLETED, ran.texts()
    assert ran.end.safe
    before, now = ended(undisturbed), ended(ran)
    assert list(now) == list(before)
    (current,) = [path for path in before if "current" in path]
    assert now[current]["charge_C"] == pytest.approx(before[current]["charge_C"], rel=0.02)
    assert now[current]["duration_s"] == pytest.approx(before[current]["duration_s"], rel=0.02)
    for name in ("R_high_ohm", "R_low_ohm"):
        assert spectrum_of(ran)[name] == pytest.approx(spectrum_of(undisturbed)[name], rel=0.03)
    assert ran.simulator.world.terminals()[1] == 0


def is_load_cell_under_force(instrument: str) -> bool:
    """All of the protocol is under force: there the loss of the gauge releases."""
    return instrument == "load cell"


@pytest.mark.parametrize("during", DURING)
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_cable_that_is_pulled_for_five_seconds_changes_nothing(
    run: Runner, undisturbed: Any, instrument: str, during: str
) -> None:
    ran = run(PROTOCOL, disturb=outage(instrument, during, 5.0))
    assert_as_undisturbed(ran, undisturbed)


@pytest.mark.parametrize("during", DURING)
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_an_instrument_that_is_away_for_minutes_is_waited_for(
    run: Runner, undisturbed: Any, instrument: str, during: str
) -> None:
    out = outage(instrument, during, LONG_S)
    ran = run(PROTOCOL, disturb=out)
    if is_load_cell_under_force(instrument):
        assert ran.end.state is RunState.STOPPED
        assert "load cell" in ran.end.reason
        assert ran.simulator.world.force_N() < 30
        return
    assert_as_undisturbed(ran, undisturbed)
    assert f"waits for {instrument} since " in out.holds[f"instrument {instrument}"]
    if instrument != "potentiostat":
        assert out.current_A == 0
    kinds = ran.kinds()
    assert kinds.index("trouble") < kinds.index("waiting") < kinds.index("overcome")
    assert f"{instrument}: works again after" in ran.texts()


@pytest.mark.parametrize("during", DURING)
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_an_instrument_that_never_comes_back_ends_the_run_after_the_patience(
    run: Runner, instrument: str, during: str
) -> None:
    out = outage(instrument, during, None)
    ran = run(PROTOCOL, disturb=out)
    confirmed = {each.instrument: each.confirmed for each in ran.end.outcomes}
    assert not confirmed.pop(instrument)
    assert all(confirmed.values())
    if instrument == "potentiostat":
        assert ran.end.exit_code == 3
        assert "unknown until it answers" in ran.texts()
    else:
        assert ran.end.exit_code == 1
        assert ran.simulator.world.terminals()[1] == 0
    (ends,) = [entry.time_s for entry in ran.reader.journal if entry.kind == "run ended"]
    if is_load_cell_under_force(instrument):
        assert ran.simulator.world.force_N() < 30
        assert ends < 3600
    else:
        assert 7200 < ends < 7200 + 3600
    if instrument in {"press", "chamber"}:
        assert out.current_A == 0
