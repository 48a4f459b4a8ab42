"""Kills a command at each of its steps: ``python kills.py COMMAND KILLS STORE [OTHER] PLACE``.

Before every kill the stores are copied to ``PLACE/N``; then a child does the command and is killed
(SIGKILL) when it comes to a call of its own choosing: of what writes, renames, deletes, flushes or
commits, the calls are counted, and spread over so many kills. Prints one line for each.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from cellbench.store import Store
from cellbench.store.backup import backup
from cellbench.store.compact import compact, drop_wire, expand
from cellbench.store.merge import merge
from cellbench.store.move import move
from cellbench.store.needed import needed

#: Builtin functions at which a process can be lost to some effect.
_CALLS = frozenset(
    {"execute", "executemany", "fsync", "replace", "unlink", "rmdir", "backup", "open", "close",
     "write", "rename", "copyfile", "sendfile", "mkdir"}
)  # fmt: skip


def _all_runs(change: Callable[..., Any]) -> Callable[[Path, Path], None]:
    def do(directory: Path, _: Path) -> None:
        with Store(directory) as store:
            for run in store.runs():
                change(store, run)

    return do


def _backup(directory: Path, other: Path) -> None:
    with Store(directory) as store:
        backup(store, other)


def _merge(directory: Path, other: Path) -> None:
    with Store(directory) as store:
        list(merge(store, other))


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "compact": _all_runs(compact),
    "expand": _all_runs(expand),
    "drop_wire": _all_runs(drop_wire),
    "backup": _backup,
    "merge": _merge,
    "move": move,
}


class Counter:
    """Counts calls, and kills this process at one of them, before or after it was done."""

    def __init__(self, at: int) -> None:
        self.count, self._at = 0, at

    def __call__(self, _: FrameType, event: str, what: Any) -> None:
        if event in {"c_call", "c_return"} and getattr(what, "__name__", "") in _CALLS:
            self.count += 1
            if self.count == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def done(command: str, place: Path, at: int) -> int:
    """Do a command in a child; returns 0 where it was killed, else its number of calls."""
    read, written = os.pipe()
    child = os.fork()
    if not child:
        counter = Counter(at)
        sys.setprofile(counter)
        COMMANDS[command](place / "store", place / "other")
        sys.setprofile(None)
        os.write(written, str(counter.count).encode())
        os._exit(0)
    os.close(written)
    with os.fdopen(read) as told:
        count = told.read()
    _, status = os.waitpid(child, 0)
    assert count or os.WTERMSIG(status) == signal.SIGKILL, "it failed by itself"
    return int(count or 0)


def main(command: str, kills: int, store: Path, other: Path | None, place: Path) -> None:
    needed("pyarrow.parquet")
    for number in range(kills + 1):
        here = place / str(number)
        shutil.copytree(store, here / "store")
        if other is not None:
            shutil.copytree(other, here / "other")
        if number == 0:
            calls = done(command, here, 0)
            continue
        done(command, here, max(1, round(calls * (number - 0.5) / kills)))
        print(number, flush=True)  # noqa: T201


if __name__ == "__main__":
    others = Path(sys.argv[4]) if len(sys.argv) > 5 else None
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), others, Path(sys.argv[-1]))
