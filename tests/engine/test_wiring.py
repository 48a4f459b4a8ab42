"""One cell, two instruments: it changes hands at open circuit and confirmed, or nothing goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cellbench import clock
from cellbench.bench import Bench, connected, declared, parse_bench, simulated_benches
from cellbench.engine.run import RunState
from cellbench.errors import InputError
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol import check, load_card, load_protocol, plan
from cellbench.protocol.source import document_of, load
from cellbench_sim.bench import SimulatedBench

Runner = Callable[..., Any]

SWITCH, HAND = "two_on_a_switch", "two_by_hand"
CYCLER, POTENTIOSTAT = "source-measure unit", "potentiostat"
HEAD = "cellbench: 1\nname: A test\nlimits: {stack pressure: at most 8 MPa}\nsteps:\n"
PRESS = "  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}\n"
CURRENT = "  - current: {at: 0.5 mA/cm2, for: 2 min}\n"
SPECTRUM = "  - eis: {from: 100 kHz, to: 10 Hz, amplitude: 10 mV}\n"


def wired(text: str) -> Bench:
    return declared(parse_bench(load(document_of(text, "bench.yaml"))), simulated=True)


def shipped(name: str) -> str:
    return simulated_benches()[name]


def handovers(ran: Any) -> list[tuple[str, str, str]]:
    return [
        (entry.kind, entry.data["previous"], entry.data["instrument"])
        for entry in ran.reader.journal
        if entry.kind in {"handover", "handed over"}
    ]


def assert_on_nothing(ran: Any) -> None:
    assert ran.simulator.world.terminals()[1] == 0
    assert not any(leads.connected or leads.drives for leads in ran.simulator.leads.values())


async def first(conductor: Any, kind: str, count: int = 1) -> None:
    """Wait for the journal's entry of a kind."""
    seen = asyncio.Event()
    left = count

    def look(entry: Any) -> None:
        nonlocal left
        left -= entry.kind == kind
        if left == 0:
            seen.set()

    conductor.journal.listeners.append(look)
    await seen.wait()


# --- A run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bench", [SWITCH, HAND])
def test_each_technique_runs_on_its_instrument_and_its_rows_bear_that_name(
    run: Runner, bench: str
) -> None:
    ran = run(HEAD + PRESS + CURRENT + SPECTRUM + CURRENT, bench=bench)
    assert ran.end.state is RunState.COMPLETED
    assert ran.end.safe
    assert handovers(ran) == [
        (kind, previous, instrument)
        for previous, instrument in (
            ("", CYCLER),
            (CYCLER, POTENTIOSTAT),
            (POTENTIOSTAT, CYCLER),
        )
        for kind in ("handover", "handed over")
    ]
    assert max(ran.reader.samples(CYCLER)["current_A"]) == pytest.approx(392.7e-6, rel=0.01)
    assert not len(ran.reader.samples(POTENTIOSTAT)["time_s"])
    (spectrum,) = ran.reader.spectra()
    assert 100 < abs(spectrum.impedance_ohm[-1]) < 1000


@dataclass
class Seen:
    """What the relays' movements found at the cell."""

    driven: list[bool] = field(default_factory=list)
    connected: list[set[str]] = field(default_factory=list)


def test_relays_only_move_while_nothing_drives_the_cell(run: Runner) -> None:
    seen = Seen()

    async def watch(simulator: Any, _bench: Any, _conductor: Any) -> None:
        switch = simulator.instruments["multiplexer"]
        connect = switch.on_change

        def spy(closed: frozenset[str]) -> None:
            seen.driven.append(any(each.drives for each in simulator.leads.values()))
            seen.connected.append({name for name, on in switch.positions.items() if on})
            connect(closed)

        switch.on_change = spy
        await asyncio.sleep(0)

    ran = run(HEAD + PRESS + CURRENT + SPECTRUM + CURRENT, bench=SWITCH, disturb=watch)
    assert ran.end.state is RunState.COMPLETED
    assert not any(seen.driven)
    nothing: set[str] = set()
    unit, potentiostat = {CYCLER}, {POTENTIOSTAT}
    assert seen.connected == [unit, nothing, potentiostat, nothing, unit, nothing]
    assert_on_nothing(ran)


def test_the_switch_opens_last(run: Runner) -> None:
    ran = run(HEAD + CURRENT, bench=SWITCH)
    names = [outcome.instrument for outcome in ran.end.outcomes]
    assert names[:2] == [CYCLER, POTENTIOSTAT]
    assert names[-1] == "multiplexer"
    assert ran.end.outcomes[-1].state == "all contacts open"


def test_a_rest_needs_no_handover(run: Runner) -> None:
    ran = run(HEAD + 2 * ("  - rest: 1 min\n" + SPECTRUM) + "  - rest: 1 min\n", bench=SWITCH)
    assert [each[2] for each in handovers(ran)[::2]] == [CYCLER, POTENTIOSTAT]
    assert len(ran.reader.samples(POTENTIOSTAT)["time_s"]) > 100


def test_the_time_of_a_handover_is_none_of_the_steps(run: Runner) -> None:
    ran = run(HEAD + SPECTRUM + CURRENT, bench=HAND)
    times = {entry.kind: entry.time_s for entry in ran.reader.journal if entry.step == "current"}
    assert times["handed over"] - times["handover"] > 60
    assert times["step ended"] - times["step started"] == pytest.approx(120, abs=2)
    assert ran.reader.samples(CYCLER)["charge_C"][-1] == pytest.approx(392.7e-6 * 120, rel=0.01)


HOLD = """
  - hold:
      at: 50 mV at the terminals
      for: 1 h
      record: {every: 10 s}
      every: {interval: 20 min, do: [eis: {from: 1 kHz, to: 10 Hz, bias: 50 mV, amplitude: 5 mV}]}
"""


@pytest.mark.long
def test_a_hold_rests_while_its_spectra_are_taken_elsewhere_and_no_charge_is_made_up(
    run: Runner,
) -> None:
    ran = run(HEAD + PRESS + HOLD, bench=HAND)
    assert ran.end.state is RunState.COMPLETED
    assert "potentiostat takes its spectra" in ran.texts()
    assert len(ran.reader.spectra()) == 2
    rows = ran.reader.samples(CYCLER)
    apart_s = rows["time_s"][1:] - rows["time_s"][:-1]
    held_s = float(sum(apart_s[apart_s < 30]))
    typical_A = float(rows["current_A"][-1])
    assert rows["time_s"][-1] - rows["time_s"][4] == pytest.approx(3600, abs=60)
    assert held_s < 3600 - 2 * 2 * 60
    # All but the current during the spectra, of a few seconds, has been measured.
    assert rows["charge_C"][-1] == pytest.approx(held_s * typical_A, rel=0.05)


# --- What goes wrong on the way ------------------------------------------------------------------


def test_contacts_that_do_not_open_end_the_run_before_anything_is_energised(run: Runner) -> None:
    async def weld(simulator: Any, _bench: Any, _conductor: Any) -> None:
        simulator.instruments["multiplexer"].welded = frozenset({"101"})
        await asyncio.sleep(0)

    ran = run(HEAD + CURRENT + SPECTRUM, bench=SWITCH, disturb=weld)
    assert ran.end.state is RunState.FAILED
    assert ran.end.exit_code == 3
    assert "multiplexer: has 101 closed instead of nothing" in ran.end.reason
    # It was tried again, from nothing, as often as a contact that hangs deserves.
    first_try = handovers(ran).index(("handover", CYCLER, POTENTIOSTAT))
    assert set(handovers(ran)[first_try + 1 :]) == {("handover", "", POTENTIOSTAT)}
    assert not ran.reader.spectra()
    assert not ran.end.safe
    confirmed = {each.instrument: each.confirmed for each in ran.end.outcomes}
    assert [name for name, each in confirmed.items() if not each] == ["multiplexer"]
    assert_on_nothing(ran)  # the other contact of the pair did open


def test_an_instrument_that_does_not_show_open_circuit_is_disconnected(run: Runner) -> None:
    async def freeze(simulator: Any, _bench: Any, conductor: Any) -> None:
        await first(conductor, "handover", 2)
        simulator.instruments[CYCLER].line.silent = True

    ran = run(HEAD + CURRENT + SPECTRUM, bench=SWITCH, disturb=freeze)
    assert ran.end.exit_code == 3
    assert "source-measure unit: is not confirmed at open circuit" in ran.texts()
    assert "given up after 2 h" in ran.end.reason
    assert handovers(ran)[-1][0] == "handover"
    assert_on_nothing(ran)


def test_a_cycler_that_falls_silent_cannot_keep_the_cell(run: Runner) -> None:
    opened_s: list[float] = []

    async def freeze(simulator: Any, _bench: Any, conductor: Any) -> None:
        switch = simulator.instruments["multiplexer"]
        connect = switch.on_change

        def note(closed: frozenset[str]) -> None:
            opened_s.append(conductor.journal.now_s)
            connect(closed)

        switch.on_change = note
        await first(conductor, "step started", 2)
        await asyncio.sleep(60)
        simulator.instruments[CYCLER].line.silent = True

    ran = run(HEAD + PRESS + CURRENT, bench=SWITCH, disturb=freeze)
    assert ran.end.exit_code == 3
    confirmed = {each.instrument: each.confirmed for each in ran.end.outcomes}
    assert [name for name, each in confirmed.items() if not each] == [CYCLER]
    assert not any(leads.connected for leads in ran.simulator.leads.values())
    assert ran.simulator.world.terminals()[1] == 0
    (begun,) = [each for each in ran.reader.journal if "to the safe state" in each.text]
    assert opened_s[-1] - begun.time_s < 6


Answer = Callable[..., Awaitable[str]]


async def _not_done(_prompt: str, _choices: Any = ()) -> str:
    return "not done"


async def _never(_prompt: str, _choices: Any = ()) -> str:
    await asyncio.sleep(1e6)
    return "done"


async def _done_without_doing(_prompt: str, _choices: Any = ()) -> str:
    return "done"


def answering(answer: Answer) -> Any:
    async def replace(simulator: Any, _bench: Any, _conductor: Any) -> None:
        simulator.operator.ask = answer
        await asyncio.sleep(0)

    return replace


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(_not_done, 'answers "not done"'), (_never, "has not confirmed in 10 min")],
)
def test_without_the_operators_confirmation_nothing_is_energised(
    run: Runner, tmp_path: Path, answer: Answer, reason: str
) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(
        shipped(HAND).replace("changeover: operator", "changeover: operator, patience: 10 min"),
        encoding="utf-8",
    )
    ran = run(HEAD + PRESS + CURRENT, bench=path, disturb=answering(answer))
    assert ran.end.state is RunState.FAILED
    assert reason in ran.end.reason
    assert not len(ran.reader.samples(CYCLER, POTENTIOSTAT)["time_s"])
    assert_on_nothing(ran)
    assert ran.end.safe


def test_leads_that_were_not_moved_show_as_no_cell(run: Runner) -> None:
    ran = run(HEAD + SPECTRUM, bench=HAND, disturb=answering(_done_without_doing),
              cell="LYC_PMMA_blocking")  # fmt: skip
    assert ran.end.state is not RunState.COMPLETED
    assert_on_nothing(ran)


def test_a_trip_while_the_operator_is_asked_leaves_the_cell_on_nothing(run: Runner) -> None:
    async def push(simulator: Any, _bench: Any, conductor: Any) -> None:
        await first(conductor, "handover", 2)
        simulator.world.press.ramp_to(1000.0, 500.0)

    ran = run(HEAD + PRESS + CURRENT + SPECTRUM, bench=HAND, disturb=push)
    assert ran.end.state is RunState.STOPPED
    assert handovers(ran)[-1] == ("handover", CYCLER, POTENTIOSTAT)
    assert ran.simulator.world.terminals()[1] == 0
    assert not ran.reader.spectra()


@pytest.mark.long
@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])
def test_a_handover_that_is_interrupted_leaves_everything_open(run: Runner, after_s: float) -> None:
    async def stop(simulator: Any, _bench: Any, conductor: Any) -> None:
        simulator.instruments["multiplexer"].line.delay_s = 0.4
        (task,) = [
            task
            for task in asyncio.all_tasks()
            if task.get_coro().__name__ == "main"  # type: ignore[union-attr]
        ]
        await first(conductor, "handover", 2)
        await asyncio.sleep(after_s)
        task.cancel()

    ran = run(HEAD + CURRENT + SPECTRUM, bench=SWITCH, disturb=stop)
    assert ran.end.state is RunState.INTERRUPTED
    assert ran.end.safe
    assert_on_nothing(ran)


# --- Who does what -------------------------------------------------------------------------------


def channel(text: str) -> WiredChannel:
    found = wired(text).channel
    assert isinstance(found, WiredChannel)
    return found


LIMITS = ElectricalLimits(voltage_min_V=-1.0, voltage_max_V=1.0, current_max_A=1e-2)
SPECTRUM_ASKED = Impedance(frequency_max_Hz=1e5, frequency_min_Hz=1.0, amplitude_V=0.01)
KEITHLEY = '{driver: keithley, port: simulated, model: "2450"}'
NEWARE = "{driver: neware, port: simulated, channel: 21-1-1, steps folder: steps}"


@pytest.mark.parametrize(
    ("technique", "holder", "server"),
    [
        (ConstantCurrent(current_A=1e-3, duration_s=10), POTENTIOSTAT, CYCLER),
        (SPECTRUM_ASKED, CYCLER, POTENTIOSTAT),
        (Sweep(start_V=0, end_V=1, rate_V_per_s=1e-3), "", POTENTIOSTAT),  # the cycler has none
        (Rest(duration_s=60, interval_s=10), "", CYCLER),
        (Rest(duration_s=60, interval_s=10), POTENTIOSTAT, POTENTIOSTAT),
        (ConstantVoltage(voltage_V=1, duration_s=10), "", CYCLER),
    ],
)
def test_a_technique_goes_to_whom_it_is_meant_for_or_else_to_who_can_do_it(
    technique: Technique, holder: str, server: str
) -> None:
    assert (
        channel(shipped(SWITCH).replace(KEITHLEY, NEWARE)).serving(technique, holder).name == server
    )


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[str, str], Any]:
    """Check steps on a bench."""

    def do(bench: str, steps: str) -> Any:
        path = tmp_path / "test.yaml"
        path.write_text(HEAD + steps, encoding="utf-8")
        card, _ = load_card(str(path), "LYC_PMMA")
        program = load_protocol(str(path), card, {})
        found = check(program, wired(bench))
        return found, None if found.problems else plan(program, wired(bench))

    return do


def test_a_cell_has_one_user_at_a_time() -> None:
    """A second run that wants the cell waits until the first has let go of it."""
    order: list[str] = []

    async def use(cell: WiredChannel, name: str, needs: Technique) -> None:
        async with cell.run(needs, LIMITS) as running:
            order.append(f"{name} begins")
            async for _ in running:
                pass
        order.append(f"{name} ends")

    async def main() -> None:
        file = parse_bench(load(document_of(shipped(SWITCH), "bench.yaml")))
        entries = {name: entry.model_dump() for name, entry in file.instruments.items()}
        wiring = {cell: each.model_dump() for cell, each in file.wiring.items()}
        simulator = SimulatedBench("LYC_PMMA", 1, instruments=entries, wiring=wiring)

        async def open_stream(name: str, _entry: Any, _driver: Any) -> Any:
            return simulator.connect(name)

        async with simulator, connected(file, open_stream, simulated=True) as bench:
            assert isinstance(bench.channel, WiredChannel)
            async with asyncio.TaskGroup() as users:
                users.create_task(use(bench.channel, "first", Rest(duration_s=5)))
                users.create_task(use(bench.channel, "second", SPECTRUM_ASKED))
            assert bench.switch is not None
            assert bench.switch.holder == POTENTIOSTAT
            assert (await bench.channel.quiet()).confirmed
            assert bench.switch.holder == ""
            assert not any(leads.connected for leads in simulator.leads.values())

    clock.run(main(), virtual=True)
    assert order == ["first begins", "first ends", "second begins", "second ends"]


def test_what_neither_can_do_is_a_problem_with_the_reasons_of_both(
    checked: Callable[[str, str], Any],
) -> None:
    found, _ = checked(shipped(SWITCH), "  - eis: {from: 100 MHz, to: 50 MHz, amplitude: 10 mV}\n")
    (problem,) = found.problems
    assert problem.line == 5
    assert "source-measure unit measures no impedance" in problem.message
    assert "potentiostat measures impedance from 1 MHz to" in problem.message


def test_a_plan_says_how_often_the_cell_changes_hands_and_that_a_hold_rests(
    checked: Callable[[str, str], Any],
) -> None:
    found, planned = checked(shipped(HAND), PRESS + HOLD)
    assert not found.problems
    (deviation,) = found.deviations
    assert "potentiostat takes its spectra: cell A1 goes there and back" in deviation
    assert planned.handovers == 5
    assert any("changes hands 5 times at most by the operator" in line for line in planned.lines())


def test_an_interval_has_to_leave_time_for_moving_the_leads(
    checked: Callable[[str, str], Any],
) -> None:
    found, _ = checked(shipped(HAND), HOLD.replace("20 min", "3 min"))
    assert "is done every 3 min" in found.problems[0].message
    found, _ = checked(shipped(SWITCH), HOLD.replace("20 min", "3 min"))
    assert not found.problems


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("impedance: potentiostat", "impedance: galvanostat", 'there is no "galvanostat"'),
        ("impedance: potentiostat", "impedance: press", "press is no potentiostat and no cycler"),
        ("impedance: potentiostat", "impedance: source-measure unit", "does both"),
        ("changeover: multiplexer", "changeover: press", "press is no switch"),
        (', potentiostat: "103,104"', ', cell 2: "103,104"', 'has no position "potentiostat"'),
        ("wiring:", "ignored:", "ignored"),
        ("changeover: multiplexer}", "changeover: operator}", "goes through multiplexer"),
        (
            "changeover: multiplexer}",
            "changeover: operator, patience: 3 V}",
            "multiplexer|time",
        ),
    ],
)
def test_wirings_that_cannot_be_are_refused(old: str, new: str, message: str) -> None:
    text = shipped(SWITCH)
    assert old in text
    with pytest.raises(InputError, match=message):
        wired(text.replace(old, new))


def test_a_second_channel_without_wiring_is_refused_with_the_cure() -> None:
    text = shipped(HAND).partition("wiring:")[0]
    with pytest.raises(InputError, match=r'second channel.*both under "wiring"'):
        wired(text)
