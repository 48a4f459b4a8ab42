"""The runs of a store, on this computer or of a laboratory, for `cellbench.open`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis import analyse
from cellbench.analysis.cycle_rows import cycle_rows
from cellbench.analysis.dataset import Dataset, Result, Spectrum
from cellbench.analysis.stored import stored_dataset
from cellbench.exchange.client import Facts
from cellbench.exchange.outgoing import Outgoing
from cellbench.protocol import load_card
from cellbench.store import Run, RunReader, Store


class LocalStore:
    """A backend of `OpenedStore`.

    Args:
        store: Where they are kept; closed with this.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self) -> None:
        """Give up the catalogue."""
        self._store.close()

    def runs(
        self, text: str, cell: str, protocol: str, state: str, limit: int | None
    ) -> list[Facts]:
        """The runs that are as told, newest first."""
        # The catalogue may not have heard of an end: of each run its file says the state.
        some = None if state else limit
        found = self._store.search(text, limit=some, cell=cell, protocol=protocol)
        runs = [self._store.believed(run) for run in found]
        return [_facts(run) for run in runs if state in {"", run.state}][:limit]

    def find(self, name: str) -> Facts:
        """The run of a name."""
        return _facts(self._store.believed(self._store.find(name)))

    def samples(self, run: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of the channel's rows; words as text, not as objects."""
        blocks: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
        for block in self._outgoing(run).channel():
            for name in columns:
                blocks[name].append(_plain(block[name]))
        return {
            name: np.concatenate(parts) if parts else np.empty(0) for name, parts in blocks.items()
        }

    def spectra(self, run: str) -> tuple[Spectrum, ...]:
        """The spectra as measured."""
        return self._dataset(run, None).spectra

    def cycles(self, run: str) -> list[dict[str, Any]]:
        """The cycles as rows."""
        return cycle_rows(self._dataset(run, None))

    def journal(self, run: str) -> list[dict[str, Any]]:
        """The journal's entries."""
        return [
            entry.model_dump(mode="json", exclude={"seq", "data"}) | {"number": entry.seq}
            for entry in self._outgoing(run).reader.journal
        ]

    def analyse(self, run: str, name: str, cell: str | None) -> Result:
        """What an analysis gives."""
        return analyse(name, self._dataset(run, cell))

    def _outgoing(self, run: str) -> Outgoing:
        found = self._store.find(run)
        return Outgoing(RunReader(self._store.run_path(found.id)), found)

    def _dataset(self, run: str, cell: str | None) -> Dataset:
        outgoing = self._outgoing(run)
        card = outgoing.card if cell is None else load_card(None, cell)[0]
        return stored_dataset(outgoing.reader, card)


def _facts(run: Run) -> Facts:
    return Facts(
        id=run.id,
        protocol=run.protocol,
        cell=run.cell,
        bench=run.bench,
        state=run.state,
        reason=run.reason,
        simulated=run.simulated,
        started=run.started.replace(tzinfo=UTC),
        ended=run.ended and run.ended.replace(tzinfo=UTC),
    )


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    return column.astype(str) if column.dtype.kind == "O" else column
