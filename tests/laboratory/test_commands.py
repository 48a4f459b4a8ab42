"""The laboratory's database from the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.laboratory import Database

from .postgresql import PostgreSQL

PROTOCOL = """
cellbench: 1
name: Rest
cell: LYC_PMMA
steps:
  - rest: 10 min
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "rest.yaml").write_text(PROTOCOL, encoding="utf-8")
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
    checked = typed("database", "check", "--store", store, "--json", url=bench)
    assert json.loads(checked.output) == {"runs": 1, "differences": {}}
    shown = json.loads(typed("database", "status", "--json", url=keeper).output)
    assert [(each["name"], each["runs"]) for each in shown["benches"]] == [("room2", 1)]
    assert shown["benches"][0]["samples"] > 600


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
