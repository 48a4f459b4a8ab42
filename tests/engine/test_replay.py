"""Recorded runs on the simulated bench, replayed: clean when unchanged, named when changed."""

from __future__ import annotations

import asyncio
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cellbench import clock
from cellbench.engine.evaluation import evaluate
from cellbench.engine.operator import OPERATOR
from cellbench.engine.recorded import (
    Recording,
    read_recording,
    recording_of,
    write_recording,
)
from cellbench.engine.replay import Found, replay
from cellbench.engine.rerun import rerun, session_of
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.errors import InputError
from cellbench.store import RunReader, Store
from cellbench.store.runfile import keep_rest_of_wire
from cellbench.transport.identity import WireIdentity, identified, new_id, wire_time
from cellbench.transport.recording import Kind, WireEvent, WireLog, events_of, packed

PROTOCOL = """
cellbench: 1
name: A pulse between two spectra
cell: LYC_PMMA
parameters: {density: 0.1 mA/cm2, duration: 60 s}
define:
  spectrum: {from: 1 MHz, to: 1 kHz, points: 4 per decade, amplitude: 10 mV}
steps:
  - press: {to: 2 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 5 s}}
  - eis: $spectrum
  - include: part/pulse.yaml
  - current: {at: $density, for: $duration}
  - prompt: Look at it
  - wait: 30 s
  - press: release
analyses: [conductivity]
"""
PART = """
cellbench: 1
name: part
steps:
  - rest: 10 s
"""


@dataclass
class Keeper:
    """Runs protocols and keeps their recordings."""

    store: Store
    directory: Path

    def protocol(self, text: str = PROTOCOL) -> str:
        path = self.directory / "pulse.yaml"
        path.write_text(text)
        (self.directory / "part").mkdir(exist_ok=True)
        (self.directory / "part/pulse.yaml").write_text(PART)
        return str(path)

    def __call__(self, *sets: str, text: str = PROTOCOL, seed: int = 3) -> Recording:
        session = prepare(self.protocol(text), sets=sets, seed=seed)
        end = conduct(session, self.store, record=True)
        reader = RunReader(self.store.run_path(end.run.id))
        results = evaluate(self.store, end.run, session.card).results
        return recording_of(end.run, reader, results)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    directory = tmp_path_factory.mktemp("recorded")
    with Store(directory / "store") as store:
        yield Keeper(store, directory)


@pytest.fixture(scope="module")
def recording(keeper: Keeper) -> Recording:
    return keeper()


def changed(recording: Recording, change: Callable[[list[WireEvent]], None]) -> Recording:
    events = list(events_of(recording.wire))
    change(events)
    return recording.model_copy(update={"wire": packed(events)})


def of_document(recording: Recording, name: str, text: str) -> Recording:
    return recording.model_copy(update={"documents": {**recording.documents, name: text}})


def found(recording: Recording, **options: Any) -> Found:
    found = replay(recording, **options).found
    assert found is not None
    return found


@pytest.mark.parametrize("by_meaning", [False, True])
def test_an_unchanged_run_is_clean(recording: Recording, keeper: Keeper, by_meaning: bool) -> None:
    # The run's file is all that a replay needs: what the protocol included is not looked for.
    shutil.rmtree(keeper.directory / "part", ignore_errors=True)
    replayed = replay(recording, by_meaning=by_meaning)
    assert replayed.found is None
    assert replayed.cut_off_s is None
    assert replayed.earliest_s == replayed.latest_s == 0.0
    assert (replayed.left_out, replayed.added) == (0, 0)
    assert replayed.connections == 5  # four instruments and the operator
    assert OPERATOR in {e.data.decode() for e in events_of(recording.wire) if e.kind is Kind.OPENED}
    assert replayed.span_s > 100
    assert replayed.wall_s < 5


def test_an_unchanged_run_with_other_parameters_is_clean(keeper: Keeper) -> None:
    other = keeper("density=0.2 mA/cm2", "duration=1 min", seed=4)
    assert replay(other).found is None
    assert found(other, sets=["density=0.1 mA/cm2"]).step.endswith("current")


@pytest.mark.parametrize("by_meaning", [False, True])
def test_a_changed_parameter_is_found_and_named(recording: Recording, by_meaning: bool) -> None:
    here = found(recording, sets=["density=0.11 mA/cm2"], by_meaning=by_meaning)
    divergence = here.divergence
    assert divergence is not None
    assert (divergence.connection, divergence.what) == ("potentiostat", "other")
    assert here.step == here.expected_step == "current"
    assert here.time_s == here.expected_s
    assert divergence.expected is not None
    assert divergence.sent is not None
    expected, sent = divergence.expected.text, divergence.sent.text
    assert [line for line in expected.splitlines() if line not in sent.splitlines()]


def test_a_changed_threshold_of_the_protocol_is_found(recording: Recording, keeper: Keeper) -> None:
    text = PROTOCOL.replace("cell: LYC_PMMA", "cell: LYC_PMMA\nlimits: {voltage: -1.9 V to 2 V}")
    here = found(recording, protocol=Path(keeper.protocol(text)))
    assert here.divergence is not None
    assert here.divergence.connection == "potentiostat"
    assert here.divergence.sent is not None
    assert "1900m" in here.divergence.sent.text or "1.9" in here.divergence.sent.text


def test_a_changed_wait_of_the_host_is_found_by_its_time(
    recording: Recording, keeper: Keeper
) -> None:
    text = PROTOCOL.replace("wait: 30 s", "wait: 31 s")
    here = found(recording, protocol=Path(keeper.protocol(text)))
    assert here.expected_step == "press_2"
    assert here.divergence is not None
    assert here.divergence.connection == "press"
    # By meaning a second is no difference, a minute is.
    assert replay(recording, protocol=Path(keeper.protocol(text)), by_meaning=True).found is None
    longer = Path(keeper.protocol(PROTOCOL.replace("wait: 30 s", "wait: 90 s")))
    assert found(recording, protocol=longer, by_meaning=True).step == "wait"


def nth_sent(events: list[WireEvent], connection: int, number: int) -> int:
    sent = [
        index
        for index, event in enumerate(events)
        if event.kind is Kind.SENT and event.connection == connection
    ]
    return sent[number]


@pytest.mark.parametrize("connection", [1, 2, 3, 4])
def test_a_flipped_byte_of_any_frame_is_found(recording: Recording, connection: int) -> None:
    places: list[WireEvent] = []

    def flip(events: list[WireEvent]) -> None:
        at = nth_sent(events, connection, 20 if connection > 1 else 8)
        event = events[at]
        data = bytes([event.data[0] ^ 1]) + event.data[1:]
        events[at] = WireEvent(event.time_s, event.connection, event.kind, data)
        places.append(event)

    here = found(changed(recording, flip))
    (place,) = places
    assert here.divergence is not None
    assert here.divergence.what == "other"
    assert here.divergence.time_s == place.time_s
    assert here.divergence.sent_bytes == place.data


def test_a_changed_answer_is_found_by_what_the_code_makes_of_it(recording: Recording) -> None:
    """A load cell that reads a hundred times the force trips a limit that it did not trip."""

    def overload(events: list[WireEvent]) -> None:
        number = next(e.connection for e in events if e.data == b"load cell")
        for index in range(len(events) // 2, len(events)):
            event = events[index]
            if event.connection == number and event.kind is Kind.RECEIVED:
                events[index] = WireEvent(event.time_s, number, event.kind, b"9999.0\r\n")

    assert found(changed(recording, overload)).divergence is not None


def test_a_frame_that_is_not_sent_any_more_is_found(recording: Recording) -> None:
    def add(events: list[WireEvent]) -> None:
        at = nth_sent(events, 2, 20)
        extra = WireEvent(events[at].time_s, 2, Kind.SENT, b"extra\r")
        events.insert(at, extra)

    here = found(changed(recording, add))
    assert here.divergence is not None
    assert here.divergence.expected_bytes == b"extra\r"


def test_a_ledger_that_differs_is_found_where_the_wire_is_the_same(recording: Recording) -> None:
    first, *rest = recording.ledger
    other = [first.model_copy(update={"ending": "settled"}), *rest]
    here = found(recording.model_copy(update={"ledger": other}))
    assert here.divergence is None
    assert '"settled"' in here.text
    run = recording.run.model_copy(update={"state": "failed"})
    assert "ended failed" in found(recording.model_copy(update={"run": run})).text


def test_the_log_of_a_process_that_was_killed_replays_to_its_end(recording: Recording) -> None:
    def kill(events: list[WireEvent]) -> None:
        del events[len(events) // 2 :]

    replayed = replay(changed(recording, kill))
    assert replayed.found is None
    assert replayed.cut_off_s is not None


def test_an_interrupted_run_is_interrupted_again(keeper: Keeper) -> None:
    async def main() -> RunEnd:
        wire = WireLog()
        async with session.bench(None, wire) as bench:
            conductor = Conductor(
                session.program,
                bench,
                keeper.store,
                documents=session.documents(bench),
                seed=session.seed,
                wire=wire,
            )
            running = asyncio.create_task(conductor.conduct())
            await asyncio.sleep(60.0)
            running.cancel()
            end = await running
        keep_rest_of_wire(keeper.store.run_path(end.run.id), wire)
        return end

    session = prepare(keeper.protocol())
    end = clock.run(main(), virtual=True)
    assert end.state == "interrupted"
    kept = recording_of(end.run, RunReader(keeper.store.run_path(end.run.id)))
    assert kept.run.interrupted_s is not None
    assert replay(kept).found is None


# --- What a replay needs --------------------------------------------------------------------------


def test_a_run_without_a_wire_log_says_so(keeper: Keeper) -> None:
    end = conduct(prepare(keeper.protocol()), keeper.store)
    reader = RunReader(keeper.store.run_path(end.run.id))
    with pytest.raises(InputError, match="no wire log: it was run without --record"):
        recording_of(end.run, reader)


def test_a_driver_that_is_missing_is_named(recording: Recording) -> None:
    bench = json.loads(recording.documents["bench"])
    bench["instruments"]["press"]["driver"] = "no_such_press"
    with pytest.raises(InputError, match='press: there is no driver "no_such_press"'):
        replay(of_document(recording, "bench", json.dumps(bench)))
    bench["instruments"]["press"]["driver"] = "mine.py:Press"
    with pytest.raises(InputError, match="--drivers DIR"):
        replay(of_document(recording, "bench", json.dumps(bench)))


def test_ids_and_dates_on_the_wire_are_made_of_the_seed(recording: Recording) -> None:
    facts = recording.facts
    assert facts["seed"] == recording.run.seed
    assert datetime.fromisoformat(facts["date"]) == datetime(2026, 1, 1, tzinfo=UTC)

    async def main(seed: int) -> tuple[Any, ...]:
        with identified(WireIdentity(seed, datetime(2026, 1, 1, tzinfo=UTC))):
            await asyncio.sleep(90.0)
            return new_id(), new_id(), wire_time()

    first = clock.run(main(1), virtual=True)
    assert first == clock.run(main(1), virtual=True)
    assert first[0] != first[1]
    assert first[2] == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    assert first[0] != clock.run(main(2), virtual=True)[0]


# --- Files ----------------------------------------------------------------------------------------


def test_a_recording_is_the_same_after_a_file(recording: Recording, tmp_path: Path) -> None:
    path, again = tmp_path / "one.recording", tmp_path / "two.recording"
    write_recording(recording, path)
    read = read_recording(path)
    assert read == recording.model_copy(update={"results": read.results})
    assert replay(read).found is None
    write_recording(read, again)
    assert again.read_bytes() == path.read_bytes()


def test_every_damaged_byte_of_a_file_is_found(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "one.recording"
    write_recording(recording, path)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            read = read_recording(path)
        except InputError:
            continue
        # What is left are names and dates that ZIP keeps twice.
        assert read.wire == recording.wire
        assert read.documents == recording.documents
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_recording(path)


def rewritten(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (kept | members).items():
            archive.writestr(name, data)


def test_files_of_another_version_or_kind_are_refused(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "one.recording"
    write_recording(recording, path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    rewritten(path, wire=recording.wire + b"x")
    with pytest.raises(InputError, match="the checksum of wire is wrong"):
        read_recording(path)
    manifest["cellbench recording"] = 99
    rewritten(path, **{"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(InputError, match="has version 99"):
        read_recording(path)
    rewritten(path, **{"manifest.json": b"{}"})
    with pytest.raises(InputError, match="is no recording"):
        read_recording(path)
    path.write_text("no archive")
    with pytest.raises(InputError, match="is no recording"):
        read_recording(path)


# --- On the simulated bench -----------------------------------------------------------------------


def test_running_it_again_agrees_and_another_cell_does_not(recording: Recording) -> None:
    again = rerun(session_of(recording), recording)
    assert again.agrees
    assert again.largest == 0.0
    assert again.steps_compared == len(recording.ledger)
    assert again.results_compared > 5
    other = rerun(session_of(recording, sim_cell="LYC"), recording)
    assert not other.agrees
    assert any("conductivity_mS_cm" in each.what for each in other.results)


def test_steps_that_are_not_the_same_are_listed(recording: Recording, keeper: Keeper) -> None:
    text = PROTOCOL.replace("  - wait: 30 s\n", "  - mark: waited\n")
    session = session_of(recording, protocol=Path(keeper.protocol(text)))
    again = rerun(session, recording)
    assert {each.what for each in again.steps} == {"wait", "mark"}
