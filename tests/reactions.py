"""Measures on the physics how long after a crossing the cell is off and the stack let go.

Each case is a run on the simulated bench in virtual time. Something happens in the world (not on a
wire) at a known moment; the world itself tells when no current flows any more, and when the force
goes down. A reading, a reply or a journal is not asked.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.hosts import Host

from cellbench import clock
from cellbench.bench import Bench
from cellbench.engine.environment import LOST_AFTER_S
from cellbench.engine.run import RunEnd, RunState
from cellbench.engine.safe_state import CURRENT_OFF_DEADLINE_S, RELEASE_RAMP_S
from cellbench.engine.session import Session, prepare
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.store import Store
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.world import World

T = TypeVar("T")
CELL = "NMC811_LYC_PMMA_Li"
#: A charge, or a hold, at 5 MPa with the limits of the card; each has its limit of pressure at 8.
HEAD = (
    "cellbench: 1\nname: A test\nlimits: {stack pressure: at most 8 MPa}\nsteps:\n"
    "  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}\n"
)
CHARGE = HEAD + "  - charge: {at: C/5, for: 20 min}\n"
HOLD = HEAD + "  - voltage: {at: 3.5 V vs Li+/Li, for: 20 min}\n"
#: When it happens, and how closely the world is looked at from then on.
AT_S, LOOK_S = 300.0, 0.01
#: A press that trips by itself may keep it from going further than this.
_NEARLY = 0.99
#: Offsets at which it happens between two readings; the worst counts.
PHASES_S = (0.0, 0.37, 0.81, 1.53, 2.24, 3.11, 3.96, 4.68)
#: Force on the stack at the limit.
FORCE_N = 8e6 * math.pi / 4 * 0.01**2
#: How long each step may last, and how often its rows come.
STEP_S, INTERVAL_S = 1200.0, 1.0
#: How often press, gauge and chamber are read, and how long reading all of them takes.
EVERY_S, READ_S = 5.0, 0.6

CHANNELS = {
    "palmsens": None,
    "keithley": "keithley",
    "keithley_2400": """bench: Keithley 2400
instruments:
  source-measure unit: {driver: keithley, port: simulated, model: "2400"}
  press: {driver: plc_press, port: simulated, capacity: 5 kN, force min: 5 N}
  load cell: {driver: loadstar, port: simulated, capacity: 5 kN}
  chamber: {driver: eurotherm, port: simulated}
fixture: {die: 10 mm, kind: servo, at most: 5 kN}
accepts unbounded: [source-measure unit]
""",
    "maccor": "maccor",
    "neware": "neware",
    "biologic": "biologic",
}
#: Presses beside a PalmSens, and what their bench files say of them.
PRESSES = {
    "plc_press": "capacity: 5 kN, force min: 5 N",
    "rmc75e": "capacity: 5 kN",
    "instron": "capacity: 5 kN",
}
_PRESS_BENCH = """bench: PalmSens and {driver}
instruments:
  potentiostat: {{driver: palmsens, port: simulated}}
  press: {{driver: {driver}, port: simulated, {options}}}
  load cell: {{driver: loadstar, port: simulated, capacity: 5 kN}}
  chamber: {{driver: eurotherm, port: simulated}}
fixture: {{die: 10 mm, kind: servo, at most: 5 kN}}
"""


@dataclass(frozen=True)
class Measured:
    """One row of the table; times in seconds from the crossing, nan where nothing was to happen."""

    driver: str
    limit: str
    place: str
    off_s: float
    declared_s: float
    let_go_s: float = math.nan
    let_go_declared_s: float = math.nan

    @property
    def kept(self) -> bool:
        """Whether the cell was off in the declared time, and the force on its way to none."""
        let_go = math.isnan(self.let_go_declared_s) or self.let_go_s <= self.let_go_declared_s
        return self.off_s <= self.declared_s and let_go


class Probe:
    """Listens in on the world: when the current ends, and when the force begins to fall."""

    def __init__(self, simulator: SimulatedBench) -> None:
        self.world: World = simulator.world
        self._timebase = simulator._timebase
        self.crossed_s = self.off_s = self.let_go_s = math.nan
        self._pass_on = self.world._pass_on_demand
        self.world._pass_on_demand = self._demanded  # type: ignore[method-assign]

    def cross(self) -> None:
        """Take note that it has happened."""
        self.crossed_s = asyncio.get_running_loop().time()

    def _demanded(self) -> None:
        self._pass_on()
        if not math.isnan(self.crossed_s):
            # What comes last counts: an output that comes back was not off.
            now_s = asyncio.get_running_loop().time()
            self.off_s = now_s if self.world._demand == "open" else math.nan

    def force_N(self) -> float:
        """The force at this moment: looking changes nothing."""
        self.world.advance_to(max(self.world.time_s, self._timebase.now()))
        return self.world.force_N()

    async def watch_force(self) -> None:
        """Look at the force until it falls below half of what it was."""
        before_N = self.force_N()
        while self.force_N() > 0.5 * before_N:
            await asyncio.sleep(LOOK_S)
        self.let_go_s = asyncio.get_running_loop().time()


#: What happens in the world; returns when it has.
Crossing = Callable[[SimulatedBench, Bench, Probe], None]


def _patched(probe: Probe, change: Callable[[float, float], tuple[float, float]]) -> None:
    model: Any = probe.world.model
    original = model.terminals_after
    model.terminals_after = lambda duration_s: change(*original(duration_s))


def voltage(_simulator: SimulatedBench, _bench: Bench, probe: Probe) -> None:
    """The cell's voltage jumps beyond its limit, within what instruments bear."""
    _patched(probe, lambda voltage_V, current_A: (max(voltage_V, 4.6), current_A))
    probe.cross()


def current(_simulator: SimulatedBench, _bench: Bench, probe: Probe) -> None:
    """The cell takes twice the current of its limit."""
    _patched(probe, lambda voltage_V, _: (voltage_V, 16e-3))
    probe.cross()


def temperature(_simulator: SimulatedBench, _bench: Bench, probe: Probe) -> None:
    """The chamber is at once 20 K above its limit."""
    probe.world._settle()
    probe.world.chamber.air_temperature_K = probe.world.chamber.stack_temperature_K = 353.15
    probe.cross()


def pressure(_simulator: SimulatedBench, _bench: Bench, probe: Probe) -> None:
    """The press goes up by itself, as fast as it can."""
    world, area_m2 = probe.world, probe.world.model.area_m2
    world.press.ramp_to(10e6 * area_m2, 200.0)

    async def look() -> None:
        while probe.force_N() <= _NEARLY * 8e6 * area_m2:
            await asyncio.sleep(LOOK_S)
        probe.cross()

    probe.looking = asyncio.create_task(look())  # type: ignore[attr-defined]


def lost_gauge(_simulator: SimulatedBench, bench: Bench, probe: Probe) -> None:
    """The cable of the load cell is pulled, for good."""
    assert bench.gauge is not None
    probe.cross()
    probe.pulled = asyncio.create_task(bench.gauge.close())  # type: ignore[attr-defined]


def emergency_stop(simulator: SimulatedBench, _bench: Bench, probe: Probe) -> None:
    """Somebody presses the emergency stop of the press."""
    press: Any = simulator.instruments["press"]
    press.e_stop = True
    probe.cross()


#: Limit, what happens, in which protocol, and what of a press's time is waited for.
CASES: dict[str, tuple[Crossing, str]] = {
    "voltage": (voltage, CHARGE),
    "current": (current, HOLD),
    "temperature": (temperature, CHARGE),
    "stack pressure": (pressure, CHARGE),
    "alarm of the press": (emergency_stop, CHARGE),
    "lost load cell": (lost_gauge, CHARGE),
}
KILLED = "killed computer"


def bench_of(driver: str, directory: Path) -> Path | None:
    """The bench with a channel of that driver: one that ships, or a file that is written."""
    if driver in PRESSES:
        bench: str | None = _PRESS_BENCH.format(driver=driver, options=PRESSES[driver])
    else:
        bench = CHANNELS[driver]
    if bench is None or "\n" not in bench:
        return None if bench is None else Path(bench)
    path = directory / f"{driver}.yaml"
    path.write_text(bench, encoding="utf-8")
    return path


def declared_s(limit: str, able: ChannelCapabilities) -> float:
    """What is promised of a limit with this channel."""
    channel_s = able.reaction.of_rows(INTERVAL_S)
    match limit:
        case "temperature" | "stack pressure" | "alarm of the press":
            return EVERY_S + READ_S + channel_s
        case "lost load cell":
            return LOST_AFTER_S + EVERY_S + READ_S + channel_s
        case _:
            return channel_s


def worst(driver: str, limit: str, phases_s: Sequence[float] = PHASES_S) -> Measured:
    """Let one thing happen on a bench with this channel, at several moments; return the slowest.

    Raises:
        AssertionError: A run did not end as it has to.
    """
    measure = partial(_killed, driver) if limit == KILLED else partial(_measured, driver, limit)
    found = [measure(AT_S + phase_s) for phase_s in phases_s]
    slowest = max(found, key=lambda each: math.inf if math.isnan(each.off_s) else each.off_s)
    return replace(slowest, let_go_s=max(each.let_go_s for each in found))


def _measured(driver: str, limit: str, at_s: float) -> Measured:
    crossing, protocol = CASES[limit]
    with tempfile.TemporaryDirectory() as folder:
        session = _session(driver, protocol, Path(folder))
        simulator = session.simulator
        assert isinstance(simulator, SimulatedBench)
        probe, places = Probe(simulator), []

        async def run(store: Store) -> RunEnd:
            host = Host(session, store)
            running = host.run()
            await host.conducts.wait()
            assert host.conducting is not None
            bench = host.conducting.bench
            places.append(_place(limit, bench))
            await asyncio.sleep(at_s)
            looking = asyncio.create_task(probe.watch_force())
            crossing(simulator, bench, probe)
            end = await running
            looking.cancel()
            return end

        with Store(Path(folder) / "store") as store:
            end = clock.run(_on(simulator, run(store)), virtual=True)
    if end.state is not RunState.STOPPED:
        raise AssertionError(f"{driver}, {limit}: {end.state}, {end.reason}")
    channel = session.declared().channel
    assert channel is not None
    promised_s = declared_s(limit, channel.capabilities)
    off_s, let_go_s = (each - probe.crossed_s for each in (probe.off_s, probe.let_go_s))
    let_go_declared_s = _let_go_s(limit, session.declared(), promised_s)
    return Measured(driver, limit, places[0], off_s, promised_s, let_go_s, let_go_declared_s)


def _let_go_s(limit: str, bench: Bench, off_s: float) -> float:
    """By when half of the force is gone; nan where the press is to hold, or cannot move."""
    if limit not in {"stack pressure", "lost load cell"}:
        return math.nan
    assert bench.press is not None
    able = bench.press.capabilities
    full_ramp_s = RELEASE_RAMP_S * FORCE_N / able.force_max_N
    return off_s + CURRENT_OFF_DEADLINE_S + able.reaction.total_s + full_ramp_s


async def _on(simulator: SimulatedBench, run: Awaitable[T]) -> T:
    """Await something while the bench is switched on; it outlives its computers."""
    async with simulator:
        return await run


def _place(limit: str, bench: Bench) -> str:
    assert bench.channel is not None
    on_device = bench.channel.capabilities.on_device
    if limit == "stack pressure":
        return "press"
    return "instrument" if limit in on_device else "computer"


def _session(driver: str, protocol: str, folder: Path) -> Session:
    path = folder / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    return prepare(str(path), cell=CELL, seed=1, bench=bench_of(driver, folder))


def _killed(driver: str, at_s: float) -> Measured:
    """The computer dies in a charge; nobody comes. Counted from when its time would be over."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(driver, CHARGE, Path(folder))
        simulator = session.simulator
        assert isinstance(simulator, SimulatedBench)
        probe = Probe(simulator)

        async def run(store: Store) -> None:
            host = Host(session, store)
            running = host.run()
            await host.conducts.wait()
            await asyncio.sleep(at_s)
            host.kill()
            probe.cross()
            await asyncio.gather(running, return_exceptions=True)
            await asyncio.sleep(3600)

        with Store(Path(folder) / "store") as store:
            clock.run(_on(simulator, run(store)), virtual=True)
    channel = session.declared().channel
    assert channel is not None
    able = channel.capabilities
    promised_s = (
        STEP_S + able.reaction.of_rows(INTERVAL_S) if able.bounded_without_host else math.inf
    )
    off_s = math.inf if math.isnan(probe.off_s) else probe.off_s - probe.crossed_s
    return Measured(driver, KILLED, "instrument", off_s, promised_s)
