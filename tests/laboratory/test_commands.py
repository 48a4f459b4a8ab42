"""The laboratory's database from the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.commands import begun
from tests.faults.processes import wait_for
from tests.serving import served

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.laboratory import Database
from cellbench.store import RunReader, Store, never_began

from .postgresql import PostgreSQL

PROTOCOL = """
cellbench: 1
name: Rest
cell: LYC_PMMA
steps:
  - rest: 10 min
"""

CAMPAIGN = """
cellbench campaign: 1
name: Two rests
cells: [LYC_PMMA]
replicates: 2
runs:
  - protocol: rest.yaml
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "rest.yaml").write_text(PROTOCOL, encoding="utf-8")
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN, encoding="utf-8")
    return tmp_path / "store"


def typed(*arguments: str | Path, url: str) -> Result:
    """A command that is over in a moment, in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)), env={"CELLBENCH_DATABASE": url})


def cellbench(*arguments: str | Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cellbench", *map(str, arguments)],
        env=os.environ | {"CELLBENCH_DATABASE": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.long
def test_a_run_is_copied_beside_itself(server: PostgreSQL, store: Path) -> None:
    keeper = server.url("made%20by%20init")
    assert typed("database", "init", url=keeper).output.endswith("is made and ready\n")
    assert typed("database", "upgrade", url=keeper).output.endswith("was up to date\n")
    bench = typed("database", "grant", "bench", "room2", url=keeper).output.strip()
    done = cellbench("run", store.parent / "rest.yaml", "--store", store, url=bench)
    assert done.returncode == 0, done.stderr
    assert (store / "follow.log").read_text() == ""
    assert differences(store, bench) == {"runs": 1, "differences": {}}
    shown = json.loads(typed("database", "status", "--json", url=keeper).output)
    assert [(each["name"], each["runs"]) for each in shown["benches"]] == [("room2", 1)]
    assert shown["benches"][0]["samples"] > 600


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("run", "rest.yaml", "--bench", "laboratory", "--cell", "A1,A2"),
        ("campaign", "run", "campaign.yaml"),
    ],
    ids=["places", "campaign"],
)
def test_several_runs_of_one_command_are_copied_beside_themselves(
    database: Database, store: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(store.parent)
    bench = database.address_for("room4", database.grant("bench", "room4"))
    done = cellbench(*words, "--store", store, url=bench)
    assert done.returncode == 0, done.stderr
    assert differences(store, bench) == {"runs": 2, "differences": {}}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_runs_that_are_resumed_together_are_copied_beside_themselves(
    database: Database, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(store.parent / "locks"))
    file = store.parent / "bench.yaml"
    bench = database.address_for("room5", database.grant("bench", "room5"))
    patiently = partial(wait_for, patience_s=120.0)
    protocol = store.parent / "short.yaml"
    protocol.write_text(PROTOCOL.replace("10 min", "2 min"), encoding="utf-8")
    run = ("run", str(protocol), "--cell", "A1,A2", "--bench", str(file))
    with served("--bench", "laboratory", "--speed", "10") as answer, Store(store) as opened:
        file.write_text(json.dumps(answer["bench"]), encoding="utf-8")
        with begun(*run, "--store", str(store)) as process:
            patiently(lambda: _begun(opened) == [True, True], "they have not begun")
            process.terminate()
            assert process.wait(120.0) == 130
        ids = [each.id for each in opened.runs()]
        resumed = cellbench("resume", *ids, "--bench", file, "--store", store, url=bench)
        assert resumed.returncode == 0, resumed.stderr
    assert differences(store, bench) == {"runs": 2, "differences": {}}


def _begun(store: Store) -> list[bool]:
    paths = [store.run_path(each.id) for each in store.runs()]
    return [path.is_file() and not never_began(path) and _steps(path) for path in paths]


def _steps(path: Path) -> bool:
    return any(each.kind == "step started" for each in RunReader(path).journal)


def differences(store: Path, bench: str) -> dict[str, Any]:
    checked = typed("database", "check", "--store", store, "--json", url=bench)
    found: dict[str, Any] = json.loads(checked.output)
    return found


@pytest.mark.long
def test_a_run_whose_server_is_away_goes_on_and_is_copied_later(
    server: PostgreSQL, database: Database, store: Path
) -> None:
    bench = database.address_for("room3", database.grant("bench", "room3"))
    server.stop()
    done = cellbench("run", store.parent / "rest.yaml", "--store", store, url=bench)
    assert done.returncode == 0
    assert "cellbench follow --once" in done.stderr
    server.start()
    assert cellbench("follow", "--once", "--store", store, url=bench).returncode == 0
    checked = typed("database", "check", "--store", store, url=bench)
    assert checked.output == "1 of 1 runs are equal to their copies\n"


def test_what_is_wrong_is_said_in_a_line(server: PostgreSQL) -> None:
    for arguments, url, words in (
        (("status",), "", "no database is named: set CELLBENCH_DATABASE"),
        (("status",), "postgresql://x@y:z/w?a=b", "that is no database's address"),
        (("status",), server.url("x", "nobody"), "password authentication failed"),
        (("grant", "bench", "x"), server.url("postgres"), "cellbench database init makes them"),
        (("grant", "viewer", "a'b"), server.url("postgres"), "cannot be the name of a role"),
    ):
        done = typed("database", *arguments, url=url)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.exit_code in {1, 2}
