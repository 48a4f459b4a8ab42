"""A run in real time on a host that stalled is replayed wake by wake.

Whether a pressure has settled can hang on a fraction of a millisecond: on which poll the reading
fell, and how late the host came to look. The replay's host must be late where the recorded one was.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import served as serving

from cellbench.clock import RealLoop
from cellbench.engine.recorded import Recording, recording_of
from cellbench.engine.replay import replay
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conducted
from cellbench.store import RunReader, Store
from cellbench.transport.recording import Kind, events_of

pytestmark = pytest.mark.long

#: The other process needs some of its time-outs on a busy machine too.
SPEED = 3.0
PROTOCOL = """
cellbench: 1
name: A quick spectrum
cell: LYC_PMMA_blocking
steps:
  - press: {to: 2 MPa, ramp: 5 MPa/s, settle: {within: 0.3 MPa, for: 2 s}}
  - rest: 1 s
  - eis: {from: 1 MHz, to: 1 kHz, points: 4 per decade, amplitude: 10 mV}
  - press: release
"""


async def stalls(chance: random.Random) -> None:
    """Keep the loop busy again and again, for up to one and a half of its seconds."""
    while True:
        await asyncio.sleep(chance.uniform(0.05, 2.0))
        time.sleep(chance.choice([0.01, 0.05, 0.3, 0.8, 1.5]) / SPEED)  # noqa: ASYNC251 (a stall)


@pytest.fixture(scope="module")
def bench() -> Iterator[str]:
    """The bench file of emulators in another process."""
    with serving("--cell", "LYC_PMMA_blocking", "--speed", str(SPEED)) as answer:
        for name, instrument in answer["bench"]["instruments"].items():
            instrument["port"] = answer["addresses"][name][0]
        yield json.dumps(answer["bench"])


def stalled_run(bench: str, directory: Path, seed: int) -> Recording:
    protocol, bench_file = directory / "quick.yaml", directory / "bench.yaml"
    protocol.write_text(PROTOCOL)
    bench_file.write_text(bench)
    session = prepare(str(protocol), bench=bench_file)
    with Store(directory / "store") as store:

        async def main() -> Recording:
            chance = random.Random(seed)  # noqa: S311 (no secret)
            stalling = asyncio.create_task(stalls(chance))
            end = await conducted(session, store, record=True)
            stalling.cancel()
            return recording_of(end.run, RunReader(store.run_path(end.run.id)))

        with asyncio.Runner(loop_factory=lambda: RealLoop(SPEED)) as runner:
            return runner.run(main())


@pytest.fixture(scope="module")
def recording(bench: str, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return stalled_run(bench, tmp_path_factory.mktemp("stalled"), 1)


def test_a_host_that_stalled_is_replayed_wake_by_wake(recording: Recording) -> None:
    assert recording.facts["time"] == "real"
    late_s = [float(e.data) for e in events_of(recording.wire) if e.kind is Kind.WOKE]
    assert max(late_s) > 0.5
    replayed = replay(recording)
    assert replayed.found is None
    assert (replayed.left_out, replayed.added) == (0, 0)
    assert replayed.latest_s < 1e-3


def test_what_the_code_does_otherwise_is_found_all_the_same(
    recording: Recording, tmp_path: Path
) -> None:
    changed = PROTOCOL.replace("rest: 1 s", "rest: 1.1 s")
    path = tmp_path / "changed.yaml"
    path.write_text(changed)
    found = replay(recording, protocol=path).found
    assert found is not None
    assert found.divergence is not None
    assert found.divergence.connection == "potentiostat"
