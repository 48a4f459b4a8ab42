"""Whole runs in which one exchange of one instrument goes wrong, in each of twelve ways.

What the driver does not get over by itself, the run does: it completes, or ends in the safe state
with a reason where a wrong number cannot be told from a right one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from tests.drivers.bad_wire import BadWire, Kind, Trouble
from tests.drivers.test_bad_wires import UNKNOWABLE, UNKNOWABLE_BINARY

from cellbench import clock
from cellbench.bench import connected
from cellbench.engine.run import Conductor, RunEnd, RunState
from cellbench.engine.session import Session, prepare
from cellbench.store import RunReader, Store
from cellbench.transport import Stream
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.registry import emulator_class
from cellbench_sim.physics.fixture import FIXTURES

PROTOCOL = """
cellbench: 1
name: A test
conditions: {every: 2 s}
steps:
  - temperature: {to: 27 °C}
  - press: {to: 2 MPa, ramp: 0.2 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}
  - rest: 20 s
  - eis: {from: 100 kHz, to: 1 Hz, points: 5 per decade, amplitude: 10 mV}
  - current: {at: 0.1 mA/cm2, for: 1 min}
  - press: release
"""
INSTRUMENTS = {
    "potentiostat": ("palmsens", None, UNKNOWABLE),
    "press": ("plc_press", "tcp", UNKNOWABLE_BINARY),
    "load cell": ("loadstar", None, UNKNOWABLE),
    "chamber": ("eurotherm", "rtu", frozenset()),
}


class _SwitchedOff(Exception):
    """What keeps an emulator without power from acting."""


@dataclass
class Rig:
    """A simulated bench on which one instrument has a bad wire."""

    session: Session
    name: str
    wire: BadWire | None = None

    @property
    def simulator(self) -> SimulatedBench:
        assert isinstance(self.session.simulator, SimulatedBench)
        return self.session.simulator

    async def open_stream(self, name: str, _entry: Any, _driver: Any) -> Stream:
        if name != self.name:
            return self.simulator.connect(name)
        stream = self.simulator.connect(name)
        self.wire = BadWire(stream, self._connect, self._reset, INSTRUMENTS[name][1])
        return self.wire

    async def _connect(self) -> Stream:
        return self.simulator.connect(self.name)

    def _reset(self) -> None:
        """Take its power away and give it back: it lets go of the cell, and knows nothing more."""
        simulator, name = self.simulator, self.name
        old = cast("Any", simulator.instruments[name])
        old.hang_up()
        old._fault = _SwitchedOff()
        world, timebase = simulator.world, old._timebase
        world.advance_to(timebase.now())
        if name == "potentiostat":
            world.open_circuit()
        if name == "press":
            world.press.max_force_N = FIXTURES["servo"].max_force_N  # it forgets the run's limit
        options = self.session.file.instruments[name].options
        simulator.instruments[name] = emulator_class(INSTRUMENTS[name][0]).from_bench(
            name, timebase, world, seed=7, options=options
        )


Conduct = Callable[[str, list[Trouble]], tuple[RunEnd, RunReader, Rig, int]]


@pytest.fixture
def conduct(tmp_path: Path) -> Conduct:
    path = tmp_path / "protocol.yaml"
    path.write_text(PROTOCOL, encoding="utf-8")

    def once(name: str, due: list[Trouble]) -> tuple[RunEnd, RunReader, Rig, int]:
        rig = Rig(prepare(str(path), cell="LYC_PMMA", seed=3), name)

        async def main(store: Store) -> tuple[RunEnd, int]:
            bench = connected(
                rig.session.file,
                rig.open_stream,
                simulated=True,
                operator=rig.simulator.operator,
            )
            async with rig.simulator, bench as instruments:
                assert rig.wire is not None
                before = rig.wire.sent
                messages = _messages.get(name, 0)
                for each in due:
                    at = before + 1 + round(each.at * (messages - 1))
                    rig.wire._troubles[at] = each
                end = await Conductor(
                    rig.session.program, instruments, store, documents={}, seed=3
                ).conduct()
                rig.simulator.world.advance_to(rig.simulator._timebase.now())
                return end, rig.wire.sent - before

        with Store(tmp_path / "store") as store:
            end, messages = clock.run(main(store), virtual=True)
            return end, RunReader(store.run_path(end.run.id)), rig, messages

    return once


#: How many messages go to an instrument in a run without trouble.
_messages: dict[str, int] = {}


#: Parts of all exchanges of a run; more of them where there is time.
FEW, MORE = (0.3,), (0.03, 0.15, 0.45, 0.62, 0.8, 0.97)


@pytest.mark.long
@pytest.mark.parametrize("moments", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_one_bad_exchange(
    conduct: Conduct, name: str, kind: Kind, moments: tuple[float, ...]
) -> None:
    if name not in _messages:
        end, _, _, messages = conduct(name, [])
        assert end.state is RunState.COMPLETED
        _messages[name] = messages
    for at in moments:
        end, reader, rig, _ = conduct(name, [Trouble(kind, at, 0.5, 4.0, bytes([0xFF]))])
        texts = "\n".join(entry.text for entry in reader.journal)
        assert rig.wire is not None
        assert rig.wire.struck, f"at {at}: nothing happened"
        assert rig.simulator.world.terminals()[1] == 0, f"at {at}: {texts}"
        if kind not in INSTRUMENTS[name][2]:
            assert end.state is RunState.COMPLETED, f"at {at}: {texts}"
        if end.state is RunState.COMPLETED:
            assert rig.simulator.world.force_N() < 30
        assert end.safe, f"at {at}: {texts}"
