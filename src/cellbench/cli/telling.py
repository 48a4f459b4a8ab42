"""Telling people of a run, where a telemetry file says whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellbench.cli.output import print_error

if TYPE_CHECKING:
    from cellbench.cli.stopping import Stopping
    from cellbench.store import Store
    from cellbench.telemetry import Beside

#: In the store: what counts where no telemetry file is named.
USUAL_NAME = "telemetry.yaml"


@contextmanager
def telling(chosen: Path | None, store: Store, stopping: Stopping) -> Iterator[Beside | None]:
    """Have somebody told of what runs in the context; None if nobody is to be, and nothing loaded.

    Args:
        chosen: The telemetry file, by default the store's, if there is one.
        store: Where the run is kept.
        stopping: Who is asked whether anybody wants to wait.

    Raises:
        InputError: The file is wrong.
    """
    path = chosen or store.directory / USUAL_NAME
    if chosen is None and not path.is_file():
        yield None
        return
    from cellbench.telemetry import Beside, read_telemetry

    telemetry = read_telemetry(path)
    with Beside(
        telemetry, store.directory, outside=print_error, impatient=lambda: stopping.wanted
    ) as beside:
        yield beside
