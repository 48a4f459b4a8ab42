"""A newcomer's path: from nothing to the first own protocol in five minutes, by the docs alone."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from tests.docs.blocks import DOCS, ROOT, script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the commands are written for a POSIX shell"),
    pytest.mark.timeout(600),
]

FIVE_MINUTES_S = 300.0


def test_the_first_own_protocol_runs_within_five_minutes_of_the_installation(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "cellbench"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    typed = script([DOCS / "first_run.md", DOCS / "first_protocol.md"])
    bare = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
    began_s = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", typed], cwd=copy, capture_output=True, text=True, check=False,
        env=bare | {"CELLBENCH_STORE": str(tmp_path / "store")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "interface resistance falls" in done.stdout
    assert time.monotonic() - began_s < FIVE_MINUTES_S
