"""Instruments that fail a run and come back, or do not: what the run does, seen on the world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cellbench import clock
from cellbench.bench import OnTrouble, parse_bench
from cellbench.engine import awaiting
from cellbench.engine.awaiting import awaited_bench
from cellbench.engine.run import Conductor, RunEnd, RunState
from cellbench.engine.session import prepare
from cellbench.errors import InstrumentError, InstrumentTimeout, TransportClosed
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.source import document_of, load
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.serve import serve

pytestmark = pytest.mark.long

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
    from tests.engine.conftest import Runner as Runs

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


def cases() -> list[Any]:
    """Every instrument during everything; most of it where there is time."""
    quick = {(each, "constant current") for each in INSTRUMENTS} | {("press", "press ramp")}
    return [
        pytest.param(each, during, marks=() if (each, during) in quick else pytest.mark.long)
        for each in INSTRUMENTS
        for during in DURING
    ]


@pytest.mark.parametrize(("instrument", "during"), cases())
def test_a_cable_that_is_pulled_for_five_seconds_changes_nothing(
    run: Runner, undisturbed: Any, instrument: str, during: str
) -> None:
    ran = run(PROTOCOL, disturb=outage(instrument, during, 5.0))
    assert_as_undisturbed(ran, undisturbed)


@pytest.mark.parametrize(("instrument", "during"), cases())
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


@pytest.mark.parametrize(("instrument", "during"), cases())
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


# --- Other ways to fail --------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [Cable.silence, Cable.garble], ids=["silent", "garbled"])
@pytest.mark.parametrize("during", ["constant current", "spectrum"])
@pytest.mark.parametrize("instrument", ["potentiostat", "press", "chamber"])
def test_a_line_that_hangs_or_garbles_is_overcome_too(
    run: Runner, undisturbed: Any, instrument: str, during: str, pull: Pull
) -> None:
    ran = run(PROTOCOL, disturb=outage(instrument, during, LONG_S, pull))
    assert_as_undisturbed(ran, undisturbed)
    assert "overcome" in ran.kinds()


HEAD = "cellbench: 1\nname: A test\n"
CURRENT = "  - current: {at: 0.3 mA/cm2, for: 15 min}\n"


def test_a_gauge_without_force_on_the_stack_is_waited_for(run: Runner) -> None:
    out = outage("load cell", "constant current", LONG_S)
    ran = run(HEAD + "steps:\n" + CURRENT, disturb=out)
    assert ran.end.state is RunState.COMPLETED
    assert out.current_A == 0
    assert "load cell: works again" in ran.texts()


def test_where_a_limit_is_in_force_the_cell_is_opened_at_once(run: Runner) -> None:
    out = outage("chamber", "constant current", 19.0, Cable.silence)
    ran = run(HEAD + "steps:\n" + CURRENT, disturb=out)  # the card's limits
    assert ran.end.state is RunState.COMPLETED
    # Lost after three readings of five seconds; there was no time for the retries to be over.
    assert out.current_A == 0
    assert "waiting" not in ran.kinds()


def test_without_a_limit_the_run_goes_on_through_the_retries(run: Runner) -> None:
    out = outage("chamber", "constant current", 19.0, Cable.silence)

    async def unlimited(simulator: Any, bench: Any, conductor: Any) -> None:
        watch = conductor._runner.watch
        watch.limits = replace(watch.limits, temperature_min_K=None, temperature_max_K=None)
        await out(simulator, bench, conductor)

    ran = run(HEAD + "steps:\n" + CURRENT, disturb=unlimited)
    assert ran.end.state is RunState.COMPLETED
    assert out.current_A == pytest.approx(0.2356e-3, rel=0.01)


def test_a_chamber_that_forgot_its_set_point_is_given_it_again(run: Runner) -> None:
    out = outage("chamber", "constant current", 60.0)

    async def forget(simulator: Any, bench: Any, conductor: Any) -> None:
        beside = asyncio.create_task(out(simulator, bench, conductor))
        while out.current_A is None:
            await asyncio.sleep(1.0)
        simulator.chamber._registers[2] = 250
        simulator.chamber._control()
        await beside

    warm = "steps:\n  - temperature: {to: 35 °C, settle: {within: 1 K, for: 1 min}}\n"
    ran = run(HEAD + warm + CURRENT, disturb=forget)
    assert ran.end.state is RunState.COMPLETED
    assert "chamber: found set to 25.0 °C, back to its order: temperature" in ran.texts()
    assert ran.simulator.world.air_temperature_K == pytest.approx(308.15, abs=1.0)


def count_ramps(press: Any) -> list[float]:
    """Forces that a press is told from now on."""
    ramps: list[float] = []
    ramp_to = press.ramp_to

    async def counted(*arguments: float) -> None:
        ramps.append(arguments[0])
        await ramp_to(*arguments)

    press.ramp_to = counted
    return ramps


def test_an_order_that_the_press_has_carried_out_is_not_given_again(run: Runner) -> None:
    ramps: list[float] = []
    out = outage("press", "settle", 20.0)

    async def counts(simulator: Any, bench: Any, conductor: Any) -> None:
        nonlocal ramps
        ramps = count_ramps(bench.press)
        await out(simulator, bench, conductor)

    ran = run(PROTOCOL, disturb=counts)
    assert ran.end.state is RunState.COMPLETED
    assert "overcome" in ran.kinds()
    assert ramps == [pytest.approx(392.7, abs=1)]


def test_a_ramp_whose_confirmation_was_lost_goes_on_from_where_it_is(
    run: Runner, undisturbed: Any
) -> None:
    forces_N: list[float] = []

    async def pull_after_the_order(simulator: Any, bench: Any, _conductor: Any) -> None:
        press, do = bench.press, bench.press._do
        cable = Cable(simulator.press, bench.streams["press"])
        ramps = count_ramps(press)

        async def lost(command: int | None) -> None:
            await do(command)
            if command == press._commands.ramp and len(ramps) == 1:
                cable.pull()
                asyncio.get_running_loop().call_later(3.0, cable.mend)
                await press.read()

        press._do = lost
        while len(forces_N) < 140:
            forces_N.append(simulator.world.force_N())
            await asyncio.sleep(1.0)

    ran = run(PROTOCOL, disturb=pull_after_the_order)
    assert ran.end.state is RunState.COMPLETED
    assert "overcome" in ran.kinds()
    assert all(now > before - 5 for before, now in pairwise(forces_N))
    took_s, usual_s = (
        next(entry.time_s for entry in each.reader.journal if entry.kind == "step ended")
        for each in (ran, undisturbed)
    )
    assert took_s == pytest.approx(usual_s, abs=10)


def test_another_instrument_on_the_port_is_an_error(run: Runner) -> None:
    out = outage("potentiostat", "constant current", 60.0)

    async def swap(simulator: Any, bench: Any, conductor: Any) -> None:
        beside = asyncio.create_task(out(simulator, bench, conductor))
        while out.current_A is None:
            await asyncio.sleep(1.0)
        known = bench.identities["potentiostat"]
        bench.identities["potentiostat"] = replace(known, serial="another")
        await beside

    ran = run(PROTOCOL, disturb=swap)
    assert ran.end.state is RunState.FAILED
    assert "when the run began: put back what was there" in ran.end.reason
    assert ran.simulator.world.terminals()[1] == 0


def test_an_instrument_that_answers_and_refuses_each_time_is_not_waited_for(run: Runner) -> None:
    async def refuse(_simulator: Any, bench: Any, _conductor: Any) -> None:
        async def release(_rate_N_per_s: float) -> None:
            raise InstrumentError("press", "smokes")

        bench.press.release = release

    ran = run(PROTOCOL, disturb=refuse)
    assert ran.end.state is RunState.FAILED
    assert ran.end.exit_code == 3
    assert "smokes" in ran.end.reason
    assert "waiting" not in ran.kinds()
    assert ran.kinds().count("overcome") == 3


def test_a_spectrum_that_fails_each_time_is_not_begun_for_ever(run: Runner) -> None:
    async def fail_late(_simulator: Any, bench: Any, _conductor: Any) -> None:
        run_ = bench.channel.run

        @asynccontextmanager
        async def breaks(technique: Any, limits: Any) -> AsyncIterator[Any]:
            async with run_(technique, limits) as running:
                if technique.technique == "impedance":
                    await asyncio.sleep(1000.0)
                    raise InstrumentTimeout("potentiostat", "does not answer")
                yield running

        bench.channel.run = breaks

    ran = run(PROTOCOL, disturb=fail_late)
    assert ran.end.state is RunState.FAILED
    assert ran.kinds().count("trouble") == 4


# --- Policies ------------------------------------------------------------------------------------


@pytest.fixture
def with_policy(tmp_path: Path) -> Callable[..., Path]:
    def write(policy: str) -> Path:
        path = tmp_path / "bench.yaml"
        path.write_text(
            "bench: a bench\ninstruments:\n"
            f"  potentiostat: {{driver: palmsens, port: simulated, on trouble: {policy}}}\n"
            "  chamber: {driver: eurotherm, port: simulated, on trouble: {then: abort}}\n"
        )
        return path

    return write


def test_abort_ends_the_run_after_the_retries(run: Runner, with_policy: Any) -> None:
    bench = with_policy("{retries: 2, then: abort}")
    out = outage("potentiostat", "constant current", None)
    ran = run(HEAD + "steps:\n" + CURRENT, disturb=out, bench=bench)
    assert ran.end.exit_code == 3
    assert "given up after 2 s (2 times tried)" in ran.end.reason
    assert "waiting" not in ran.kinds()


def test_no_retries_and_abort_ends_the_run_at_once(run: Runner, with_policy: Any) -> None:
    bench = with_policy("{retries: 0, then: abort}")
    out = outage("potentiostat", "constant current", None)
    ran = run(HEAD + "steps:\n" + CURRENT, disturb=out, bench=bench)
    assert ran.end.exit_code == 3
    assert "attempt" not in ran.kinds()


def test_the_patience_of_the_bench_file_is_kept(run: Runner, with_policy: Any) -> None:
    bench = with_policy("{patience: 10 min}")
    out = outage("potentiostat", "constant current", None)
    ran = run(HEAD + "steps:\n" + CURRENT, disturb=out, bench=bench)
    (began, ends) = [
        entry.time_s for entry in ran.reader.journal if entry.kind in {"trouble", "failure"}
    ]
    assert ends - began == pytest.approx(600, abs=5)
    assert "given up after 10 min" in ran.end.reason


@pytest.mark.parametrize(
    ("policy", "column", "told"),
    [
        ("{retires: 3}", 60, 'did you mean "retries"?'),
        ("{then: pray}", 66, 'must be "wait" or "abort"'),
        ("{patience: 2 mm}", 70, "time"),
        ("{patience: 0 s}", 70, "must be longer than no time"),
        ("{retries: -1}", 69, "greater than or equal to 0"),
        ("{then: abort, patience: 1 h}", 59, "waits for nothing"),
        ("wait", 59, "block of lines"),
    ],
)
def test_a_wrong_policy_is_told_with_its_place(policy: str, column: int, told: str) -> None:
    line = f"  potentiostat: {{driver: palmsens, port: COM4, on trouble: {policy}}}\n"
    text = f"bench: a bench\ninstruments:\n{line}"
    with pytest.raises(ProtocolError) as error:
        parse_bench(load(document_of(text, "bench.yaml")))
    (problem,) = error.value.problems
    assert told in problem.message
    assert (problem.line, problem.column) == (3, column)


def test_the_default_waits_two_hours() -> None:
    assert OnTrouble() == OnTrouble(retries=3, then="wait")
    assert OnTrouble().patience_s == 7200


# --- A real connection ---------------------------------------------------------------------------

SHORT = """
  - press: {to: 2 MPa, ramp: 5 MPa/s, settle: {within: 0.3 MPa, for: 2 s}}
  - current: {at: 0.1 mA/cm2, for: 12 s}
  - press: release
"""


def test_emulators_that_are_served_anew_are_connected_to_again(tmp_path: Path) -> None:
    """TCP, in real time: the servers go away during a current, and come back on the same ports."""
    protocol = tmp_path / "short.yaml"
    protocol.write_text(HEAD + "conditions: {every: 1 s}\nsteps:\n" + SHORT)

    async def main(store: Store) -> tuple[RunEnd, float]:
        async with SimulatedBench("LYC_PMMA", 1) as simulator, AsyncExitStack() as servers:
            addresses = await servers.enter_async_context(simulator.serve())
            file = tmp_path / "bench.yaml"
            file.write_text(json.dumps(simulator.description(addresses)))
            session = prepare(str(protocol), cell="LYC_PMMA", bench=file)
            async with session.bench(None) as bench:
                conductor = Conductor(session.program, bench, store, documents={})
                beside = asyncio.create_task(restart(simulator, addresses, servers, conductor))
                end = await conductor.conduct()
                await beside
            return end, simulator.world.terminals()[1]

    async def restart(
        simulator: SimulatedBench, addresses: Any, servers: AsyncExitStack, conductor: Conductor
    ) -> None:
        while conductor.status.step_path != "current":
            await asyncio.sleep(0.1)
        await asyncio.sleep(3.0)
        await servers.aclose()
        await asyncio.sleep(6.0)
        for name, (address, *_) in addresses.items():
            port = int(address.rpartition(":")[2])
            await servers.enter_async_context(serve([simulator.instruments[name]], base_port=port))

    with Store(tmp_path / "store") as store:
        end, current_A = clock.run(main(store))
        texts = [entry.text for entry in RunReader(store.run_path(end.run.id)).journal]
    assert end.state is RunState.COMPLETED, texts
    assert current_A == 0
    assert any("potentiostat: works again" in text for text in texts)


@pytest.mark.parametrize(
    ("entry", "comes", "said"),
    [({}, True, 1), ({"on trouble": {"retries": 0, "then": "abort"}}, True, 0), ({}, False, 1)],
)
async def test_a_run_that_is_gone_on_with_waits_for_an_instrument_that_is_not_there_yet(
    tmp_path: Path, entry: dict[str, Any], comes: bool, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP, in real time: a computer that is up before one of its instruments."""
    monkeypatch.setattr(awaiting, "LONGEST_S", 4.0)
    monkeypatch.setattr(awaiting, "PAUSE_S", 0.5)
    protocol = tmp_path / "short.yaml"
    protocol.write_text(HEAD + "steps:\n" + SHORT)
    heard: list[str] = []
    async with SimulatedBench("LYC_PMMA", 1) as simulator, AsyncExitStack() as servers:
        addresses = await servers.enter_async_context(simulator.serve())
        description = simulator.description(addresses)
        description["instruments"]["chamber"] |= entry
        file = tmp_path / "bench.yaml"
        file.write_text(json.dumps(description))
        await servers.aclose()
        session = prepare(str(protocol), cell="LYC_PMMA", bench=file)

        async def power() -> None:
            for name, (address, *_) in addresses.items():
                if name == "chamber":
                    await asyncio.sleep(2.5)
                if comes or name != "chamber":
                    port = int(address.rpartition(":")[2])
                    device = serve([simulator.instruments[name]], base_port=port)
                    await servers.enter_async_context(device)

        powering = asyncio.create_task(power())
        await asyncio.sleep(0.5)
        waiting = awaited_bench(session, None, "resume", heard.append)
        if comes and said:
            async with waiting as bench:
                assert bench.chamber is not None
        else:
            with pytest.raises(InstrumentError, match=r"chamber: .*cannot be opened"):
                await waiting.__aenter__()
        await powering
    assert len(heard) == said
    assert all(each.startswith("chamber: ") for each in heard)


# --- One cell on several instruments -------------------------------------------------------------

SPECTRUM = "  - eis: {from: 100 kHz, to: 10 Hz, points: 5 per decade, amplitude: 10 mV}\n"


@pytest.mark.parametrize("instrument", ["source-measure unit", "potentiostat", "multiplexer"])
def test_any_instrument_of_a_wired_cell_is_waited_for(run: Runner, instrument: str) -> None:
    out = Outage(instrument, "current", 600.0, 420.0)
    ran = run(HEAD + "steps:\n" + CURRENT + SPECTRUM, disturb=out, bench="two_on_a_switch")
    assert ran.end.state is RunState.COMPLETED, ran.texts()
    assert ran.end.safe
    assert f"instrument {instrument}" in out.holds
    assert [entry.step for entry in ran.reader.journal if entry.kind == "spectrum"] == ["eis"]
    (charge_C,) = [each["charge_C"] for path, each in ended(ran).items() if path == "current"]
    assert charge_C == pytest.approx(0.2356e-3 * 900, rel=0.02)
