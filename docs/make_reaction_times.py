"""Writes docs/evidence/reaction_times.md: how long each driver needs, measured on the physics.

python docs/make_reaction_times.py
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from tests.reactions import CASES, CHANNELS, KILLED, PHASES_S, PRESSES, Measured, worst  # noqa: E402

PAGE = DOCS / "evidence" / "reaction_times.md"
HEAD = """# Reaction times

From the moment at which a limit is crossed in the cell, the press or the chamber until no current
flows, in seconds. Measured on the physics of the simulated bench, not by anything that cellbench
reports: something happens in the world at {phases} moments between two readings, and the slowest
counts. Rows come each second; press, load cell and chamber are read every 5 s. "Declared" is what
the driver's capabilities say, with the interval of rows where that is longer, and what the
reading of the other instruments adds. Times of real instruments are measured by `cellbench bench
drill`.

Written by `python docs/make_reaction_times.py`, commit {commit}. Every row is held by
`tests/engine/test_reactions.py`.

| channel | crossed | seen by | cell off after | declared |
|---|---|---|---|---|
"""
PRESS_HEAD = """
"{killed}": the process is gone at once, and nobody comes. The step had up to 920 s left. An
instrument that ends its step by itself does so at that time, one with a watchdog earlier. The
Keithley 2400 does neither, and is [refused](../benches.md) unless the bench file accepts it.

| press, beside a PalmSens | crossed | cell off | declared | half of the force gone | declared |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Measure all, and write the page."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=DOCS, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    channels = [worst(driver, limit) for driver in CHANNELS for limit in (*CASES, KILLED)]
    presses = [worst(press, limit) for press in PRESSES for limit in _PRESS_LIMITS]
    text = HEAD.format(phases=len(PHASES_S), commit=commit) + "\n".join(_rows(channels))
    text += "\n" + PRESS_HEAD.format(killed=KILLED) + "\n".join(_press_rows(presses)) + "\n"
    PAGE.write_text(text, encoding="utf-8")
    late = [each for each in (*channels, *presses) if not each.kept]
    if late:
        raise SystemExit(f"later than declared: {late}")


_PRESS_LIMITS = ("stack pressure", "lost load cell")


def _rows(measured: list[Measured]) -> Iterator[str]:
    for each in measured:
        yield (
            f"| {each.driver} | {each.limit} | {each.place} | {_shown(each.off_s)} | "
            f"{_shown(each.declared_s)} |"
        )


def _press_rows(measured: list[Measured]) -> Iterator[str]:
    for each in measured:
        yield (
            f"| {each.driver} | {each.limit} | {_shown(each.off_s)} | {_shown(each.declared_s)} | "
            f"{_shown(each.let_go_s)} | {_shown(each.let_go_declared_s)} |"
        )


def _shown(time_s: float) -> str:
    if math.isinf(time_s):
        return "never"
    return "-" if math.isnan(time_s) else f"{time_s:.2f}" if time_s < 100 else f"{time_s:.0f}"


if __name__ == "__main__":
    main()
