"""The guard as a second host on the simulated bench, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from tests.hosts import Host

from cellbench import clock
from cellbench.engine.guard import GuardReport, Kind, Ledger, ledger_path, read_ledger
from cellbench.engine.guard.messages import Beat, Over, Step, from_line, to_line
from cellbench.engine.guard.simulated import SimulatedGuard
from cellbench.engine.run import RunEnd
from cellbench.engine.session import SIMULATED_DATE, prepare
from cellbench.engine.trips import Aborted
from cellbench.errors import StoreError
from cellbench.instruments.readings import Outcome
from cellbench.store import Store
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.device import Emulator

PRESSED = """
cellbench: 1
name: Guarded
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 10 s}}
  - current: {at: 0.1 mA/cm2, for: 1 h}
"""
CYCLED = """
cellbench: 1
name: Left alone
cell: NMC811_LYC_PMMA_Li
steps:
  - repeat: 3
    name: cycle
    steps:
      - charge: {at: C/5, until: potential >= 4.2 V vs Li+/Li, for: 10 min}
      - rest: 5 min
"""
#: Time for the host's first steps: the current flows.
FLOWS_S = 120.0
INSTRUMENTS = {"potentiostat", "press", "load cell", "chamber"}


@dataclass
class Scene:
    """What a story plays with."""

    bench: SimulatedBench
    host: Host
    guard: SimulatedGuard
    task: asyncio.Task[RunEnd]
    ledger: Path

    @property
    def current_A(self) -> float:
        self.bench.world.advance_to(self.bench._timebase.now())
        return self.bench.world.terminals()[1]

    async def current_stops(self, within_s: float) -> float:
        """Time until no current flows."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while self.current_A != 0:
            assert loop.time() - began_s < within_s, "the current goes on"
            await asyncio.sleep(0.01)
        return loop.time() - began_s

    def report(self) -> GuardReport:
        return read_ledger(self.ledger)

    async def guard_ends(self) -> None:
        assert self.guard.task is not None
        await self.guard.task


Story = Callable[[Scene], Awaitable[None]]


class Overheard:
    """Counts what the instruments of a bench hear, from whoever."""

    def __init__(self, bench: SimulatedBench) -> None:
        self.messages = 0
        for device in bench.instruments.values():
            self._listen(device)

    def _listen(self, device: Emulator) -> None:
        receive = device.receive

        def heard(data: bytes) -> None:
            self.messages += 1
            receive(data)

        device.receive = heard  # type: ignore[method-assign]


def play(
    directory: Path,
    story: Story,
    protocol: str = PRESSED,
    *,
    bench: str | None = None,
    guarded: bool = True,
) -> GuardReport:
    """Run a protocol on a host with a guard on another one, and let something happen."""
    path = directory / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    session = prepare(str(path), seed=1, bench=None if bench is None else Path(bench))
    simulator = session.simulator
    assert isinstance(simulator, SimulatedBench)

    async def main(store: Store) -> Path:
        async with simulator:

            async def end() -> str:
                host.kill()
                return "the host was killed"

            guard = SimulatedGuard(session.file, simulator, end)
            host = Host(session, store, guard.start if guarded else None)
            host.on_kill.append(guard.hang_up)
            task = host.run()
            while host.conducting is None:
                await asyncio.sleep(0.1)
            ledger = ledger_path(host.conducting.writer.path)
            try:
                await story(Scene(simulator, host, guard, task, ledger))
            finally:
                task.cancel()
                await asyncio.wait({task})
                if guard.task is not None:
                    guard.task.cancel()
                    await asyncio.wait({guard.task})
            return ledger

    with Store(directory / "store") as store:
        return read_ledger(clock.run(main(store), virtual=True))


def test_a_killed_engine_leaves_the_cell_at_open_circuit_and_the_press_fed(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        assert scene.current_A != 0
        scene.host.kill()
        assert await scene.current_stops(within_s=2.0) < 1.0
        await asyncio.sleep(3600)  # the PLC would unload after a minute of silence
        assert scene.bench.world.stack_pressure_Pa() == pytest.approx(5e6, rel=0.05)
        scene.guard.asker = "a technician"
        await scene.guard_ends()
        await asyncio.sleep(3600)  # and does not when it was left in order
        assert scene.bench.world.stack_pressure_Pa() == pytest.approx(5e6, rel=0.05)
        assert scene.current_A == 0

    done = play(tmp_path, story).last
    assert done is not None
    assert done.why == "its process is gone, without a word"
    assert done.engine == "the host was killed"
    assert done.step == "current"
    assert set(done.outcomes) == INSTRUMENTS
    assert all(outcome.confirmed for outcome in done.outcomes.values())
    assert done.open_circuit is not None
    assert done.quiet is not None
    assert (done.open_circuit - done.noticed).total_seconds() < 2.0
    assert (done.quiet - done.noticed).total_seconds() < 5.0
    assert abs(done.readings["potentiostat"]["voltage_V"]) < 0.01
    assert done.readings["load cell"]["force_N"] == pytest.approx(393, rel=0.05)
    assert done.readings["press"]["force_N"] == pytest.approx(393, rel=0.05)
    assert done.ending == "the bench was given to a technician"
    assert done.noticed > SIMULATED_DATE


def test_an_engine_whose_loop_hangs_is_ended_after_its_silence(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        scene.guard.deaf = True
        assert 9.0 < await scene.current_stops(within_s=20.0) < 12.5
        assert scene.task.cancelling()

    done = play(tmp_path, story).last
    assert done is not None
    assert done.why.startswith("no sign of life for 10")
    assert done.engine == "the host was killed"


def test_a_watch_that_hangs_is_a_miss_though_the_loop_turns(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        conducting = scene.host.conducting
        assert conducting is not None

        async def hang(_: object) -> None:
            await asyncio.Event().wait()

        conducting._environment._look = hang  # type: ignore[assignment, method-assign]
        assert 69.0 < await scene.current_stops(within_s=120.0) < 90.0

    done = play(tmp_path, story).last
    assert done is not None
    assert done.why.startswith("no sign of life for 10")


def test_an_engine_that_ends_in_order_is_left_to_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.task
        await scene.guard_ends()

    report = play(tmp_path, story)
    assert report.acts == []
    assert report.watched


@pytest.mark.parametrize("answers", [True, False])
def test_what_an_engine_leaves_unknown_is_tried_once_by_the_guard(
    tmp_path: Path, answers: bool
) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        conducting = scene.host.conducting
        assert conducting is not None
        heart, line = conducting._runner.heart, scene.bench.potentiostat.line
        engine_left = heart.left

        def left(unknown: Sequence[str]) -> None:
            engine_left(unknown)
            line.silent = not answers

        heart.left = left  # type: ignore[method-assign]
        line.silent = True
        conducting.abort(Aborted("aborted"))
        end = await scene.task
        assert [each.confirmed for each in end.outcomes if each.instrument == "potentiostat"] == [
            False
        ]
        assert (scene.current_A == 0) is answers
        await scene.guard_ends()

    done = play(tmp_path, story).last
    assert done is not None
    assert done.why == "its run ended, and left potentiostat unknown"
    assert set(done.outcomes) == {"potentiostat"}
    assert done.outcomes["potentiostat"].confirmed is answers
    assert (done.open_circuit is not None) is answers
    known = "all of it is known by now" if answers else "still unknown: potentiostat"
    assert done.ending == known


def test_one_that_does_not_answer_is_retried_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        scene.bench.potentiostat.line.silent = True
        scene.host.kill()
        await asyncio.sleep(60)
        done = scene.report().last
        assert done is not None
        others = INSTRUMENTS - {"potentiostat"}
        assert all(done.outcomes[name].confirmed for name in others)
        assert "potentiostat" not in done.outcomes
        assert done.open_circuit is done.quiet is None
        assert scene.current_A != 0
        await asyncio.sleep(600)
        scene.bench.potentiostat.line.silent = False
        await scene.current_stops(within_s=300.0)
        await asyncio.sleep(10)

    done = play(tmp_path, story).last
    assert done is not None
    assert done.outcomes["potentiostat"] == Outcome("potentiostat", "cell off", confirmed=True)
    assert done.open_circuit is not None
    assert (done.open_circuit - done.noticed).total_seconds() > 600
    assert done.quiet is not None


def test_a_list_that_the_cycler_bounds_is_left_alone_until_it_is_over(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(600)
        scene.host.kill()
        await asyncio.sleep(600)
        done = scene.report().last
        assert done is not None
        assert "cycler goes on by itself" in done.left_alone["cycler"]
        assert set(done.outcomes).isdisjoint({"cycler"})
        left = [scene.current_A]
        for _ in range(40):
            await asyncio.sleep(30)
            left.append(scene.current_A)
        assert any(left)  # it went on charging
        await scene.guard_ends()
        assert scene.current_A == 0

    report = play(tmp_path, story, CYCLED, bench="neware")
    done = report.last
    assert done is not None
    assert done.step.startswith("cycle[1]")
    assert done.open_circuit is not None
    assert (done.open_circuit - done.noticed).total_seconds() == pytest.approx(
        45 * 60 - 600 + 60, abs=60
    )
    assert done.outcomes["cycler"].confirmed
    assert "cycler" not in done.readings  # what it did is still the newest that it holds


@pytest.mark.parametrize("bench", [None, "keithley"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_single_step_goes_on_where_it_declares_that_and_the_instrument_bounds_it(
    tmp_path: Path, bench: str | None, declared: bool
) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        scene.host.kill()
        await asyncio.sleep(60)
        assert (scene.current_A != 0) is declared
        await scene.current_stops(within_s=600.0)
        scene.guard.asker = "a technician"
        await asyncio.sleep(600)

    ending = ", when interrupted: continue" if declared else ""
    protocol = PRESSED.replace("for: 1 h", f"for: 10 min{ending}")
    done = play(tmp_path, story, protocol, bench=bench).last
    assert done is not None
    assert bool(done.left_alone) is declared


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_any_moment_is_answered(tmp_path: Path, seed: int) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(np.random.default_rng(seed).uniform(0.0, 150.0))
        scene.host.kill()
        await scene.current_stops(within_s=20.0)
        await asyncio.sleep(120)
        assert scene.current_A == 0

    report = play(tmp_path, story)
    if report.watched:
        done = report.last
        assert done is not None
        assert done.quiet is not None


WIRED = """
cellbench: 1
name: Wired
cell: NMC811_LYC_PMMA_Li
steps:
  - current: {at: C/10, for: 1 h}
"""


def test_contacts_are_opened_when_the_current_is_off(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        assert scene.current_A != 0
        scene.host.kill()
        await scene.current_stops(within_s=10.0)
        await scene.guard_ends()
        assert not any(leads.connected for leads in scene.bench.leads.values())

    done = play(tmp_path, story, WIRED, bench="two_on_a_switch").last
    assert done is not None
    assert done.ending == "nothing is left to be done"
    *channels, switch = done.outcomes
    assert set(done.channels) <= set(channels)
    assert "open" in done.outcomes[switch].state
    assert all(outcome.confirmed for outcome in done.outcomes.values())


def test_leads_that_a_person_moves_stay_where_they_are(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(600.0)
        assert scene.current_A != 0
        scene.host.kill()
        await scene.current_stops(within_s=10.0)
        await scene.guard_ends()

    done = play(tmp_path, story, WIRED, bench="two_by_hand").last
    assert done is not None
    assert done.open_circuit is not None
    assert len(done.channels) == 2
    assert not {*done.channels} & {*done.readings}  # nobody knows which of them has the cell


BY_HAND = """
bench: a press that a person works
instruments:
  potentiostat: {driver: palmsens, port: simulated}
  press: {driver: manual_press, port: none, capacity: 5 kN}
GAUGE
fixture: {die: 10 mm, kind: servo, at most: 5 kN}
"""
GAUGE = "  load cell: {driver: loadstar, port: simulated, capacity: 5 kN}"


@pytest.mark.parametrize("gauge", ["", GAUGE])
def test_a_press_by_hand_is_only_looked_at(tmp_path: Path, gauge: str) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(BY_HAND.replace("GAUGE", gauge), encoding="utf-8")

    async def story(scene: Scene) -> None:
        await asyncio.sleep(600.0)
        assert scene.current_A != 0
        scene.host.kill()
        await scene.guard_ends()
        assert scene.current_A == 0
        assert scene.bench.world.force_N() > 100

    done = play(tmp_path, story, PRESSED, bench=str(bench)).last
    assert done is not None
    assert done.outcomes["press"].state.startswith("left as it is")
    assert done.outcomes["press"].confirmed is bool(gauge)
    assert done.quiet is not None


def test_no_clean_up_of_a_killed_host_reaches_the_bench(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(FLOWS_S)
        overheard = Overheard(scene.bench)
        scene.host.kill()
        await asyncio.wait({scene.task})
        await asyncio.sleep(30)
        assert overheard.messages == 0
        assert scene.current_A != 0  # nobody guards it

    play(tmp_path, story, guarded=False)


def test_messages_go_through_the_pipe() -> None:
    for message in (Beat(), Over(), Over(["press"]), Step("cycle[2]/charge", {"cycler": 60.0})):
        assert from_line(to_line("2026-01-01-001", message)) == ("2026-01-01-001", message)
    for line in (
        b'["1", "beat", {"what": 1}]',
        b'["1", ["beat"], {}]',
        b'["1", "beat", 5]',
        b"[1]",
    ):
        with pytest.raises(ValueError, match="no message"):
            from_line(line)


def test_a_ledger_outlives_half_a_line_and_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "run.guard.jsonl"
    Ledger(path).enter(Kind.WATCHING, pid=1)
    with path.open("a") as file:
        file.write('{"utc": "2026-01-01T00:00')
    ledger = Ledger(path, lambda: datetime(2026, 1, 2, tzinfo=SIMULATED_DATE.tzinfo))
    aside = path.rename(tmp_path / "aside")
    path.mkdir()  # nothing can be written there
    ledger.enter(Kind.NOTICED, "gone", step="rest", channels=["potentiostat"])
    path.rmdir()
    aside.rename(path)
    ledger.enter(Kind.ENDED, "nothing is left to be done")
    report = read_ledger(path)
    assert report.watched
    (done,) = report.acts
    assert (done.why, done.ending) == ("gone", "nothing is left to be done")
    assert done.open_circuit is None


def test_a_ledger_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.guard.jsonl"
    assert read_ledger(path) == GuardReport([], watched=False)
    path.write_text(json.dumps({"utc": "yesterday", "kind": "noticed"}) + "\n")
    with pytest.raises(StoreError, match="no ledger of a guard"):
        read_ledger(path)
