"""Many runs on one bench: each for itself, and what they share in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cellbench import clock
from cellbench.analysis.stored import environment
from cellbench.engine.gate import Gate
from cellbench.engine.owner import Ended, Owner, RunRequest, all_at_once
from cellbench.engine.requests import Abort, Who
from cellbench.engine.run import Conducting, RunEnd, RunState
from cellbench.engine.session import identity_of
from cellbench.engine.snapshot import snapshot
from cellbench.engine.trips import Trip
from cellbench.errors import InputError
from cellbench.instruments.readings import PressState
from cellbench.instruments.roles import Press
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench

BENCH = Path("laboratory")
HEAD = (
    "cellbench: 1\nname: A test\ncell: LYC_PMMA\nlimits: {stack pressure: at most 8 MPa}\nsteps:\n"
)
CURRENT = "  - current: {at: 0.2 mA/cm2, for: 3 min}\n"
SPECTRUM = "  - eis: {from: 100 kHz, to: 10 Hz, amplitude: 10 mV}\n"
PRESS = "  - press: {to: 2 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}\n"
RELEASE = "  - press: release\n"
WARM = "  - temperature: {to: 30 degC}\n"
WARMER = "  - temperature: {to: 40 degC}\n"
Beside = Callable[["Scene"], Coroutine[Any, Any, None]]


class Scene:
    """An owner at work, and what has become of its runs."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.store, self._directory = store, directory
        self.runs: dict[str, Conducting] = {}
        self.owner = Owner(BENCH, store, seed=3, witness=self._witness)
        self.ends: Mapping[str, Ended] = {}

    @contextmanager
    def _witness(self, run: Conducting, _gate: Gate) -> Iterator[None]:
        self.runs[run.bench.place] = run
        yield

    @property
    def simulator(self) -> SimulatedBench:
        assert self.owner._places is not None
        assert isinstance(self.owner._places.simulator, SimulatedBench)
        return self.owner._places.simulator

    def request(self, place: str, *steps: str, **more: Any) -> RunRequest:
        path = self._directory / f"{place}.yaml"
        path.write_text(HEAD + "".join(steps), encoding="utf-8")
        return RunRequest(str(path), place, **more)

    def running(self, requests: Sequence[RunRequest]) -> dict[str, Coroutine[Any, Any, RunEnd]]:
        return {each.place: self.owner.run(each) for each in requests}

    async def seen(self, place: str, kind: str) -> None:
        """Wait for an entry of a kind in the journal of the run at a place."""
        while place not in self.runs or not self.entries(place, kind):
            await asyncio.sleep(1)

    def entries(self, place: str, kind: str) -> list[tuple[float, str]]:
        path = self.store.run_path(self.runs[place].run.id)
        return [(each.time_s, each.text) for each in RunReader(path).journal if each.kind == kind]

    def loop_time(self, place: str, time_s: float) -> float:
        """The loop's time at a time of a place's run."""
        return self.runs[place].journal.loop_time(time_s)

    def end(self, place: str) -> RunEnd:
        end = self.ends[place]
        assert isinstance(end, RunEnd), end
        return end


Play = Callable[..., Scene]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Run requests at once on the shipped laboratory; something else may happen beside them."""
    with Store(tmp_path / "store") as store:

        def played(
            requests: Callable[[Scene], Sequence[RunRequest]], beside: Beside | None = None
        ) -> Scene:
            scene = Scene(tmp_path, store)

            async def main() -> None:
                async with scene.owner:
                    happening = asyncio.create_task(_nothing() if beside is None else beside(scene))
                    scene.ends = await all_at_once(scene.running(requests(scene)))
                    happening.cancel()
                    await asyncio.gather(happening, return_exceptions=True)

            clock.run(main(), **scene.owner.file.clock())
            return scene

        yield played


async def _nothing() -> None:
    pass


def test_replicates_run_at_once_and_take_their_spectra_in_turn(play: Play) -> None:
    scene = play(
        lambda it: [
            it.request(place, CURRENT, SPECTRUM, SPECTRUM, campaign="spread", replicate=number)
            for number, place in enumerate(("A1", "A2", "A3"), start=1)
        ]
    )
    having: list[tuple[float, float, str]] = []
    for place in ("A1", "A2", "A3"):
        assert scene.end(place).state is RunState.COMPLETED
        given = [each for each in scene.entries(place, "handed over") if "potentiostat" in each[1]]
        back = scene.entries(place, "handed back")
        assert len(given) == len(back) == 2
        having += [
            (scene.loop_time(place, one[0]), scene.loop_time(place, two[0]), place)
            for one, two in zip(given, back, strict=True)
        ]
    having.sort()
    assert all(one[1] <= two[0] for one, two in pairwise(having))
    # Nobody takes two while another waits.
    assert {place for *_, place in having[:3]} == {"A1", "A2", "A3"}
    assert any("waits for potentiostat and multiplexer, which A" in text
               for place in scene.runs for _, text in scene.entries(place, "lease"))  # fmt: skip
    runs = scene.store.search("spread")
    assert {(each.place, each.replicate) for each in runs} == {("A1", 1), ("A2", 2), ("A3", 3)}
    readers = [RunReader(scene.store.run_path(each.id)) for each in runs]
    assert {environment(each)["place"] for each in readers} == {"A1", "A2", "A3"}
    first = {float(each.spectra()[0].impedance_ohm[0].real) for each in readers}
    assert len(first) == 3  # each place has a cell and a noise of its own


def test_a_run_that_fails_touches_no_other(play: Play) -> None:
    async def pull_the_plug(scene: Scene) -> None:
        await scene.seen("A1", "step started")
        await asyncio.sleep(60)
        scene.runs["A1"]._raise_alarm(Trip("voltage", "beyond its limit"))

    scene = play(
        lambda it: [it.request("A1", CURRENT, SPECTRUM), it.request("A2", CURRENT, SPECTRUM)],
        pull_the_plug,
    )
    assert scene.end("A1").state is RunState.STOPPED
    assert scene.end("A1").safe
    assert scene.end("A2").state is RunState.COMPLETED
    assert not scene.entries("A2", "trouble")


def test_two_places_use_no_id_of_each_other() -> None:
    async def ids() -> set[str]:
        return {str(identity_of(3, place).new_id()) for place in ("", "A1", "A2")}

    assert len(clock.run(ids(), virtual=True)) == 3


def test_a_press_has_one_stack_at_a_time_and_who_does_not_press_does_not_wait(play: Play) -> None:
    told: list[dict[str, Any]] = []

    async def look(scene: Scene) -> None:
        while not told:
            await asyncio.sleep(1)
            told.extend(found for run in scene.runs.values() if (found := snapshot(run))["holds"])

    scene = play(
        lambda it: [
            it.request("A3", PRESS, CURRENT, RELEASE),
            it.request("A4", PRESS, CURRENT, RELEASE),
            it.request("A2", CURRENT),
        ],
        look,
    )
    assert all(scene.end(place).state is RunState.COMPLETED for place in ("A2", "A3", "A4"))
    first, later = ("A3", "A4") if scene.entries("A4", "lease") else ("A4", "A3")
    waits = scene.entries(later, "lease")[0][1]
    assert f"waits for load cell and press, which {first} has, ~" in waits
    ended_s = scene.loop_time(first, scene.entries(first, "run ended")[0][0])
    began_s = scene.loop_time(later, scene.entries(later, "step started")[0][0])
    assert began_s >= ended_s - 1
    assert (told[0]["place"], told[0]["state"]) == (later, "held")
    assert f"which {first} has" in told[0]["holds"]["lease"]
    assert not scene.entries("A2", "lease")
    assert not scene.entries(first, "lease")


def test_a_press_keeps_a_stack_whose_run_has_ended_while_others_go_on(play: Play) -> None:
    seen: list[PressState] = []

    async def look(scene: Scene) -> None:
        await scene.seen("A3", "run ended")
        await asyncio.sleep(300)  # longer than its PLC waits for a host
        press = scene.owner._pool._shared["press"].instrument
        assert isinstance(press, Press)
        seen.append(await press.read())

    longer = CURRENT.replace("3 min", "15 min")
    play(lambda it: [it.request("A3", PRESS), it.request("A2", longer)], look)
    assert seen[0].force_N > 100
    assert not seen[0].alarm


def test_a_chamber_is_shared_at_one_temperature(play: Play) -> None:
    scene = play(
        lambda it: [
            it.request("A1", WARM, CURRENT),
            it.request("A2", WARM, CURRENT),
            it.request("A3", WARMER, CURRENT),
        ]
    )
    assert all(scene.end(place).state is RunState.COMPLETED for place in ("A1", "A2", "A3"))
    had = {
        place: scene.loop_time(place, scene.entries(place, "step started")[0][0])
        for place in scene.runs
    }
    assert had["A1"] == pytest.approx(had["A2"], abs=10)
    assert abs(had["A3"] - had["A1"]) > 180


def test_a_run_that_waits_is_aborted_like_any_other(play: Play) -> None:
    waiting: list[str] = []

    async def abort(scene: Scene) -> None:
        while not waiting:
            await asyncio.sleep(1)
            waiting.extend(place for place, run in scene.runs.items() if snapshot(run)["holds"])
        await scene.runs[waiting[0]].commands.obey(Abort(reason="not today"), Who(user="somebody"))

    scene = play(lambda it: [it.request(each, PRESS, CURRENT) for each in ("A3", "A4")], abort)
    (later,) = waiting
    (other,) = {"A3", "A4"} - {later}
    assert scene.end(later).state is RunState.INTERRUPTED
    assert scene.end(later).safe
    assert not scene.entries(later, "step started")
    assert scene.end(other).state is RunState.COMPLETED
    # What it does not have it has left alone, under the force of another cell.
    left = [text for _, text in scene.entries(later, "safe state")]
    assert "press: not in use by this run, left as it is" in left


def test_an_interruption_brings_every_run_to_quiet(play: Play, tmp_path: Path) -> None:
    with Store(tmp_path / "another") as store:
        scene = Scene(tmp_path, store)

        async def main() -> None:
            async with scene.owner:
                requests = [scene.request("A1", CURRENT), scene.request("A2", CURRENT)]
                work = asyncio.create_task(all_at_once(scene.running(requests)))
                await scene.seen("A1", "step started")
                await scene.seen("A2", "step started")
                await asyncio.sleep(30)
                for _ in range(3):  # somebody is impatient
                    work.cancel()
                    await asyncio.sleep(0.1)
                scene.ends = await work
                currents = [each.world.terminals()[1] for each in scene.simulator.places.values()]
                assert not any(currents)

        clock.run(main(), **scene.owner.file.clock())
        assert scene.end("A1").state is scene.end("A2").state is RunState.INTERRUPTED
        assert scene.end("A1").safe
        assert scene.end("A2").safe


def test_a_place_has_one_run_at_a_time_and_what_is_wrong_is_told_before(
    play: Play, tmp_path: Path
) -> None:
    with Store(tmp_path / "another") as store:
        scene = Scene(tmp_path, store)
        presses = [scene.request(each, PRESS) for each in ("A1", "A3", "A4")]
        told = scene.owner.conflicts(presses)
        assert told == ["A3 and A4 run one after the other: load cell, press"]
        with pytest.raises(InputError, match='no place "A9"; there are: A1, A2, A3, A4'):
            scene.owner.prepare(scene.request("A9", CURRENT))

        async def main() -> None:
            async with scene.owner:
                first = scene.request("A1", CURRENT)
                under_way = asyncio.create_task(scene.owner.run(first))
                await scene.seen("A1", "step started")
                with pytest.raises(InputError, match="a run is under way at A1"):
                    await scene.owner.run(first)
                assert (await under_way).state is RunState.COMPLETED

        clock.run(main(), **scene.owner.file.clock())


def test_a_bench_with_one_cell_is_a_bench_with_one_place(tmp_path: Path) -> None:
    protocol = tmp_path / "p.yaml"
    protocol.write_text(HEAD + CURRENT, encoding="utf-8")
    with Store(tmp_path / "store") as store:
        owner = Owner(Path("neware"), store)

        async def main() -> RunEnd:
            async with owner:
                return await owner.run(RunRequest(str(protocol)))

        end = clock.run(main(), **owner.file.clock())
        assert end.state is RunState.COMPLETED
        assert end.run.place == ""
