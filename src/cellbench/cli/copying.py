"""Copying runs to the laboratory's database beside what runs, where one is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cellbench.cli.output import print_error
from cellbench.system import own_group

if TYPE_CHECKING:
    from cellbench.store import Store

#: For what is left to be copied when all is over; the rest is copied the next time.
_PATIENCE_S = 30.0


@contextmanager
def copied_store(directory: Path | None, *, make: bool = True) -> Iterator[Store]:
    """Open a store for runs that are to be conducted, and have them copied meanwhile.

    Args:
        directory: Chosen by the user; None for the usual place.
        make: Whether to make it where there is none yet.

    Raises:
        InputError: It cannot be used as a store.
    """
    from cellbench.store import Store

    with Store(directory, make=make) as store, copying(store.directory):
        yield store


@contextmanager
def copying(directory: Path) -> Iterator[None]:
    """Have the runs of a store copied meanwhile, in a process of its own that no run waits for.

    Args:
        directory: Of the store; what there is to say goes to ``follow.log`` in it.
    """
    if not os.environ.get("CELLBENCH_DATABASE"):
        yield
        return
    if find_spec("psycopg") is None:
        print_error(
            "CELLBENCH_DATABASE is set, and nothing is copied there: "
            'pip install "cellbench[server]"'
        )
        yield
        return
    command = [sys.executable, "-m", "cellbench", "follow", "--beside", "--store", str(directory)]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "follow.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, **own_group()
        )
    try:
        yield
    finally:
        _finish(process, directory)


def _finish(process: subprocess.Popen[bytes], directory: Path) -> None:
    """Have it copy what is left, for a while."""
    try:
        process.communicate(timeout=_PATIENCE_S)  # which closes its standard input
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    if process.returncode != 0:
        print_error(
            f"not all is in the laboratory's database yet (see {directory / 'follow.log'}): "
            "it is copied with the next run, or by cellbench follow --once"
        )
