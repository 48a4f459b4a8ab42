"""Every way out ends in a safe state: limits, silent instruments, failures, the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cellbench.engine.run import RunState
from cellbench.errors import InstrumentError

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nlimits: {stack pressure: at most 8 MPa}\nsteps:\n"
PRESSED = (
    HEAD
    + """
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 10 s}}
  - current: {at: 0.5 mA/cm2, for: 30 min}
  - press: release
"""
)


def assert_at_open_circuit(ran: Any) -> None:
    assert ran.simulator.world.terminals()[1] == 0


def test_a_voltage_beyond_its_limit_ends_the_run_with_the_cell_off(run: Runner) -> None:
    ran = run(
        "cellbench: 1\nname: A test\nlimits: {voltage: -50 mV to 50 mV}\n"
        "steps:\n  - current: {at: 1 mA/cm2, for: 1 h}\n"
    )
    assert ran.end.state is RunState.STOPPED
    assert ran.end.exit_code == 1
    assert "voltage" in ran.end.reason or "switched off" in ran.end.reason
    assert ran.end.safe
    assert_at_open_circuit(ran)
    assert "trip" in ran.kinds()


def test_too_much_pressure_takes_the_force_away(run: Runner) -> None:
    async def push(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(300)
        simulator.world.press.ramp_to(1000.0, 50.0)

    ran = run(PRESSED, disturb=push)
    assert ran.end.state is RunState.STOPPED
    # The press trips by itself, at the limit that it was given, before the host sees it.
    assert "over-force" in ran.end.reason
    assert_at_open_circuit(ran)
    assert ran.simulator.world.force_N() < 30
    assert any("released" in outcome.state for outcome in ran.end.outcomes)


def test_a_gauge_lost_while_pressing_takes_the_force_away(run: Runner) -> None:
    async def pull(_simulator: Any, bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(300)
        await bench.gauge.close()

    ran = run(PRESSED, disturb=pull)
    assert ran.end.state is RunState.STOPPED
    assert "load cell" in ran.end.reason
    assert ran.simulator.world.force_N() < 30
    assert_at_open_circuit(ran)


def test_a_lost_chamber_leaves_the_press_holding(run: Runner) -> None:
    async def pull(_simulator: Any, bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(300)
        await bench.chamber.close()

    ran = run(PRESSED, disturb=pull)
    assert ran.end.state is RunState.STOPPED
    assert ran.simulator.world.stack_pressure_Pa() == pytest.approx(5e6, rel=0.05)
    assert_at_open_circuit(ran)
    (chamber,) = [each for each in ran.end.outcomes if each.instrument == "chamber"]
    assert not chamber.confirmed


def test_a_lost_potentiostat_is_honestly_unknown_and_the_others_are_made_safe(run: Runner) -> None:
    async def pull(_simulator: Any, bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(300)
        await bench.channel.close()

    ran = run(PRESSED, disturb=pull)
    assert ran.end.state is RunState.FAILED
    assert ran.end.exit_code == 3
    confirmed = {each.instrument: each.confirmed for each in ran.end.outcomes}
    assert confirmed == {
        "potentiostat": False, "press": True, "load cell": True, "chamber": True
    }  # fmt: skip
    assert not ran.end.safe


def test_a_press_that_disagrees_with_the_gauge_is_not_trusted(run: Runner) -> None:
    async def drift(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(300)
        simulator.load_cell.cell.zero_N = -250.0

    ran = run(PRESSED, disturb=drift)
    assert ran.end.state is RunState.STOPPED
    assert "one of them is wrong" in ran.end.reason
    assert_at_open_circuit(ran)


def test_the_operator_ends_a_run_through_its_safe_state(run: Runner) -> None:
    async def stop(_simulator: Any, _bench: Any, conductor: Any) -> None:
        await asyncio.sleep(300)
        conductor_task.cancel()

    conductor_task: asyncio.Task[Any]

    async def find(simulator: Any, bench: Any, conductor: Any) -> None:
        nonlocal conductor_task
        (conductor_task,) = [
            task
            for task in asyncio.all_tasks()
            if task.get_coro().__name__ == "main"  # type: ignore[union-attr]
        ]
        await stop(simulator, bench, conductor)

    ran = run(PRESSED, disturb=find)
    assert ran.end.state is RunState.INTERRUPTED
    assert ran.end.exit_code == 130
    assert_at_open_circuit(ran)
    assert ran.simulator.world.stack_pressure_Pa() == pytest.approx(5e6, rel=0.05)


def test_asking_again_does_not_cut_the_way_to_the_safe_state_short(run: Runner) -> None:
    async def stop_often(_simulator: Any, bench: Any, _conductor: Any) -> None:
        (task,) = [
            task
            for task in asyncio.all_tasks()
            if task.get_coro().__name__ == "main"  # type: ignore[union-attr]
        ]
        quiet = bench.channel.quiet

        async def slow_quiet() -> Any:
            for _ in range(3):
                await asyncio.sleep(0.5)
                task.cancel()
            return await quiet()

        bench.channel.quiet = slow_quiet
        await asyncio.sleep(300)
        task.cancel()

    ran = run(PRESSED, disturb=stop_often)
    assert ran.end.state is RunState.INTERRUPTED
    assert ran.end.safe
    assert_at_open_circuit(ran)


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), InstrumentError("press", "smokes")])
def test_an_exception_in_a_driver_leaves_the_bench_safe(run: Runner, failure: Exception) -> None:
    async def break_it(_simulator: Any, bench: Any, _conductor: Any) -> None:
        async def fail(*_: Any) -> Any:
            raise failure

        bench.press.release = fail
        await asyncio.sleep(0)

    ran = run(PRESSED.replace("30 min", "1 min"), disturb=break_it)
    assert ran.end.state is RunState.FAILED
    assert str(failure) in ran.end.reason
    assert_at_open_circuit(ran)
    assert ("traceback" in ran.reader.documents) == isinstance(failure, RuntimeError)


def test_a_hanging_instrument_does_not_keep_the_others_from_their_safe_state(run: Runner) -> None:
    async def hang(_simulator: Any, bench: Any, _conductor: Any) -> None:
        async def never() -> Any:
            await asyncio.get_running_loop().create_future()

        bench.chamber.quiet = never
        await asyncio.sleep(0)

    ran = run(PRESSED.replace("30 min", "1 min"), disturb=hang)
    by_name = {each.instrument: each for each in ran.end.outcomes}
    assert not by_name["chamber"].confirmed
    assert "unknown" in by_name["chamber"].state
    assert by_name["potentiostat"].confirmed


def test_a_creep_short_that_no_protocol_foresees_ends_the_run(run: Runner) -> None:
    spectrum = "  - eis: {from: 1 MHz, to: 1 Hz, points: 5 per decade, amplitude: 10 mV}\n"
    ran = run(
        "cellbench: 1\nname: A test\nsteps:\n"
        "  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}\n"
        f"{spectrum}"
        "  - press: {to: 30 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}\n"
        "  - rest: 10 min\n"
        f"{spectrum}"
        "  - rest: 10 min\n"
    )
    assert ran.end.exit_code == 1
    assert "short circuit" in ran.end.reason
    assert ran.kinds().count("step started") == 5
    assert_at_open_circuit(ran)


class _Overloads:
    """A line on which some points of a spectrum, counted from 0, are marked as out of range."""

    def __init__(self, points: set[int]) -> None:
        self._points = points
        self._count = -1

    def __call__(self, line: bytes) -> bytes:
        if not line.startswith(b"Pdc"):
            return line
        self._count += 1
        return line.replace(b",10,", b",12,") if self._count in self._points else line


@pytest.mark.parametrize(
    ("points", "state"),
    [({4, 5}, RunState.COMPLETED), ({4, 5, 6}, RunState.STOPPED)],
    ids=["two points running", "three points running"],
)
def test_a_spectrum_is_blind_after_as_many_points_as_a_channel_after_rows(
    points: set[int], state: RunState, run: Runner
) -> None:
    async def overload(simulator: Any, _bench: Any, _conductor: Any) -> None:
        simulator.potentiostat.line.garble = _Overloads(points)

    ran = run(HEAD + "  - eis: {from: 100 kHz, to: 10 Hz}\n", disturb=overload)
    assert ran.end.state is state
    assert ("out of the instrument's range" in ran.end.reason) == (state is RunState.STOPPED)


def test_a_pressure_that_never_settles_is_a_failed_step(run: Runner) -> None:
    ran = run(
        "cellbench: 1\nname: A test\nsteps:\n"
        "  - press: {to: 5 MPa, ramp: 0.3 MPa/s,"
        " settle: {within: 0.2 MPa, for: 10 s, at most: 12 s}}\n"
    )
    assert ran.end.state is RunState.FAILED
    assert "did not settle" in ran.end.reason
    assert ran.end.safe
