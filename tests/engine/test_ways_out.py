"""Ways out of a run that are easily forgotten: each ends in a safe state, with the right reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cellbench.bench import OnTrouble
from cellbench.engine.causes import judge, root_cause
from cellbench.engine.run import RunState
from cellbench.engine.trips import SafeState, Trip
from cellbench.errors import InstrumentError
from cellbench_sim.bench import SimulatedBench

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nlimits: {stack pressure: at most 8 MPa}\nsteps:\n"
PRESS = "  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 10 s}}\n"


def assert_at_open_circuit(ran: Any) -> None:
    assert ran.simulator.world.terminals()[1] == 0


def entry_time_s(ran: Any, kind: str, words: str) -> float:
    (entry,) = [e for e in ran.reader.journal if e.kind == kind and words in e.text]
    return float(entry.time_s)


def test_over_pressure_does_not_wait_for_a_slow_spectrum_to_give_way(run: Runner) -> None:
    forces: list[float] = []

    async def push(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(400)
        simulator.world.press.max_force_N = 5000.0
        simulator.world.press.ramp_to(900.0, 100.0)
        await asyncio.sleep(25)
        forces.append(simulator.world.force_N())

    ran = run(
        HEAD
        + PRESS
        + "  - eis: {from: 1 kHz, to: 5 mHz, points: 5 per decade, amplitude: 10 mV}\n",
        disturb=push,
    )
    assert ran.end.state is RunState.STOPPED
    assert "stack pressure" in ran.end.reason or "over-force" in ran.end.reason
    assert forces[0] < 600  # let go at once, though the spectrum's last point takes minutes
    assert entry_time_s(ran, "trip", "") < 420
    assert ran.simulator.world.force_N() < 30
    assert_at_open_circuit(ran)


def test_a_bug_in_one_instrument_does_not_take_the_others_safe_state(run: Runner) -> None:
    async def break_it(_simulator: Any, bench: Any, _conductor: Any) -> None:
        async def quiet() -> Any:
            raise ValueError("a bug")

        bench.gauge.quiet = quiet
        await asyncio.sleep(0)

    ran = run(HEAD + PRESS + "  - current: {at: 0.5 mA/cm2, for: 1 min}\n", disturb=break_it)
    confirmed = {each.instrument: each.confirmed for each in ran.end.outcomes}
    assert confirmed.pop("load cell") is False
    assert all(confirmed.values())
    assert "run ended" in ran.kinds()


@pytest.mark.parametrize(
    ("policy", "state"),
    [(OnTrouble(retries=0, then="abort"), RunState.FAILED), (OnTrouble(), RunState.COMPLETED)],
)
def test_a_step_that_something_else_aborted_is_trouble(
    run: Runner, policy: OnTrouble, state: RunState
) -> None:
    async def meddle(simulator: Any, bench: Any, _conductor: Any) -> None:
        bench.on_trouble["potentiostat"] = policy
        await asyncio.sleep(100)
        simulator.potentiostat.receive(b"Z\n")

    ran = run(HEAD + "  - current: {at: 0.5 mA/cm2, for: 10 min}\n", disturb=meddle)
    assert ran.end.state is state
    assert bool(ran.end.exit_code) is (state is RunState.FAILED)
    assert "somebody or something else ended the step" in ran.texts()
    assert_at_open_circuit(ran)


def test_the_swing_of_a_galvanostatic_spectrum_is_held_against_the_voltage_limit(
    run: Runner,
) -> None:
    ran = run(
        "cellbench: 1\nname: A test\nlimits: {voltage: -50 mV to 50 mV}\nsteps:\n"
        "  - eis: {from: 100 kHz, to: 1 Hz, points: 5 per decade, amplitude: 1 mA}\n"
    )
    assert ran.end.state is RunState.STOPPED
    assert "voltage" in ran.end.reason
    assert_at_open_circuit(ran)


def test_a_potentiostat_that_falls_silent_is_a_failure_and_not_safe(run: Runner) -> None:
    async def cut(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(60)
        simulator.potentiostat.line.silent = True

    ran = run(HEAD + PRESS + "  - current: {at: 0.5 mA/cm2, for: 10 min}\n", disturb=cut)
    assert ran.end.state is RunState.FAILED
    assert ran.end.exit_code == 3
    assert not ran.end.safe


def test_a_trip_is_not_lost_when_the_clean_up_after_it_fails() -> None:
    def trip_and_fail() -> None:
        try:
            raise Trip("stack pressure", "9 MPa", SafeState.RELEASED)
        finally:
            raise InstrumentError("potentiostat", "does not answer")

    with pytest.raises(InstrumentError) as raised:
        trip_and_fail()
    judgement = judge(root_cause(BaseExceptionGroup("run", [raised.value])))
    assert judgement.state is RunState.STOPPED
    assert judgement.target is SafeState.RELEASED


def test_a_cancel_while_the_end_is_being_written_does_not_lose_it(run: Runner) -> None:
    async def cancel_late(_simulator: Any, _bench: Any, conductor: Any) -> None:
        (task,) = [t for t in asyncio.all_tasks() if t.get_coro().__name__ == "main"]  # type: ignore[union-attr]
        enter = conductor.journal.enter

        async def cancelling(kind: str, **data: Any) -> None:
            if kind in {"safe state", "run ended"}:
                task.cancel()
                await asyncio.sleep(0)
            await enter(kind, **data)

        conductor.journal.enter = cancelling
        await asyncio.sleep(0)

    ran = run(HEAD + "  - rest: 10 s\n", disturb=cancel_late)
    assert ran.kinds()[-1] == "run ended"
    assert ran.end.state is RunState.COMPLETED


def test_a_viewer_that_breaks_does_not_end_the_run(run: Runner) -> None:
    async def watch_badly(_simulator: Any, _bench: Any, conductor: Any) -> None:
        def listener(_entry: Any) -> None:
            raise SystemExit(1)

        conductor.journal.listeners.append(listener)
        await asyncio.sleep(0)

    ran = run(HEAD + "  - rest: 10 s\n", disturb=watch_badly)
    assert ran.end.state is RunState.COMPLETED


def test_a_press_that_holds_goes_on_holding_after_the_host_has_left(run: Runner) -> None:
    async def look_later(simulator: Any, bench: Any, _conductor: Any) -> None:
        close = bench.press.close

        async def close_and_wait() -> None:
            await close()
            await asyncio.sleep(600)  # longer than any host timeout of the PLC

        bench.press.close = close_and_wait
        await asyncio.sleep(0)

    ran = run(HEAD + PRESS + "  - rest: 10 s\n", disturb=look_later)
    assert ran.end.state is RunState.COMPLETED
    assert ran.simulator.world.stack_pressure_Pa() == pytest.approx(5e6, rel=0.05)


def test_text_that_the_disk_cannot_take_is_an_error_and_not_a_hang(run: Runner) -> None:
    async def answer_nonsense(_simulator: Any, bench: Any, _conductor: Any) -> None:
        class Operator:
            async def ask(self, *_: Any) -> str:
                return "\ud800"

        bench.operator = Operator()
        await asyncio.sleep(0)

    ran = run(HEAD + "  - prompt: Well?\n  - rest: 5 s\n", disturb=answer_nonsense)
    assert ran.end.state is RunState.FAILED
    assert "be written to" in ran.end.reason


def test_a_bench_with_nothing_but_a_potentiostat_runs_to_the_end(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SimulatedBench.description

    def bare(bench: SimulatedBench, addresses: Any = None) -> dict[str, Any]:
        content = whole(bench, addresses)
        content["instruments"] = {"potentiostat": content["instruments"]["potentiostat"]}
        return content

    monkeypatch.setattr(SimulatedBench, "description", bare)
    ran = run("cellbench: 1\nname: A test\nsteps:\n  - rest: 60 s\n")
    assert ran.end.state is RunState.COMPLETED
    assert ran.kinds().count("step ended") == 1
    assert ran.reader.journal[-1].time_s >= 60
