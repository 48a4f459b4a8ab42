"""A host that dies at each entry of its journal, in turn: the run comes to its end all the same.

All of it is part of the campaign; CI takes a sample (``CELLBENCH_BOUNDARIES`` is the stride).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.hosts import Ended, Fate, Host, run_with_kills
from tests.invariants import check, endings

from cellbench.library import directory
from cellbench.store import JournalEntry, runfile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STRIDE = int(os.environ.get("CELLBENCH_BOUNDARIES", "1"))

#: Shipped protocols, shortened to 60 entries or fewer: parameters, and pieces of their text.
SHORTENED = {
    "ccd": (
        {"currents": "0.1, 0.6 mA/cm2", "half_cycle": "2 min", "rest": "1 min", "relax": "10 s"},
        {"to: 100 mHz": "to: 100 Hz"},
    ),
    "ageing_hold": (
        {"duration": "45 min", "cycles": "1", "rate": "1C"},
        {"for: 10 h": "for: 10 min", "to: 100 mHz": "to: 100 Hz"},
    ),
    "rate_test": (
        {"break_in_cycles": "1", "break_in": "2C", "rates": "4C", "cycles": "1",
         "return_to": "2C", "rest": "1 min"},
        {"rest: 30 min": "rest: 1 min", "10 min}, when": "10 s}, when"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def flush_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk when a host dies does not hang on how fast the disk was."""
    monkeypatch.setattr(runfile, "FLUSH_INTERVAL_S", 3600.0)


def at_entry(number: int) -> Fate:
    """Let the first host die when it makes an entry."""

    async def fate(host: Host, kills: int) -> None:
        if kills:
            await asyncio.sleep(1e9)
        entered = asyncio.Event()
        await host.conducts.wait()
        assert host.conducting is not None

        def listen(entry: JournalEntry) -> None:
            if entry.seq == number:
                entered.set()

        host.conducting.journal.listeners.append(listen)
        await entered.wait()

    return fate


@pytest.mark.parametrize("name", SHORTENED)
def test_a_host_may_die_at_any_entry(name: str, tmp_path: Path) -> None:
    parameters, texts = SHORTENED[name]
    text = (directory() / f"{name}.yaml").read_text(encoding="utf-8")
    for written, shorter in texts.items():
        assert written in text
        text = text.replace(written, shorter)
    path = tmp_path / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    sets = [f"{key}={value}" for key, value in parameters.items()]

    def run(number: int) -> Ended:
        return run_with_kills(path, tmp_path / f"store-{number}", at_entry(number), away_s=30.0,
                              sets=sets)  # fmt: skip

    undisturbed = run(10**9)
    steps = [each for each in endings(undisturbed) if "every[" not in each]
    check(undisturbed, steps)
    entries = undisturbed.reader.journal
    assert len(entries) <= 60 + 20, len(entries)
    for entry in entries[::STRIDE]:
        ended = run(entry.seq)
        try:
            check(ended, steps)
        except AssertionError as error:
            error.add_note(f"killed at entry {entry.seq}: {entry.kind} {entry.step} {entry.text}")
            raise
