"""The places of a bench with many cells, each as a session of its own.

The simulated bench has a world for each place, whose seed is drawn from the bench's and the place's
name: a cell behaves as it does whichever others are there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cellbench.bench import SimulatedBench, simulated_bench
from cellbench.engine.named_bench import NamedBench
from cellbench.engine.session import Session
from cellbench.errors import InputError
from cellbench.protocol.loading import load_card, load_protocol, parse_settings
from cellbench.protocol.program import Program
from cellbench.wiring import DEFAULT_FIXTURE


class Places:
    """What is at each place of a bench file.

    Args:
        bench: The bench.
        only: The places that are wanted; by default all.
        seed: Of the simulated bench.
        sim_cell: The simulated cell of places that name none.
        cards: By place, cards that stand for those of the bench file.

    Attributes:
        file: The bench file.
        simulator: The simulated bench that plays it, None with real instruments.

    Raises:
        InputError: It has no such place, or no cell can be simulated there.
    """

    def __init__(
        self,
        bench: NamedBench,
        *,
        only: Collection[str] | None = None,
        seed: int = 0,
        sim_cell: str | None = None,
        cards: Mapping[str, str] | None = None,
    ) -> None:
        self._bench, self.file = bench, bench.file
        self._names = tuple(self.file.cells) if only is None else tuple(only)
        for name in self._names:
            self.file.of_place(name)
        self._seed, self._sim_cell, self._cards = seed, sim_cell, dict(cards or {})
        self._simulated: Mapping[str, str] = {}
        self.simulator = self._play() if self.file.is_simulated else None
        if self.simulator is None and sim_cell is not None:
            raise InputError("--sim-cell names a simulated cell, but --bench has real instruments")

    @property
    def played(self) -> SimulatedBench:
        """The simulated bench; raises InputError where the instruments are real ones."""
        if self.simulator is None:
            raise InputError(f"{self.file.bench}: its instruments are not simulated")
        return self.simulator

    def session(
        self,
        protocol: str,
        place: str,
        *,
        card: str | None = None,
        sets: Sequence[str] = (),
        shared: Collection[str] = (),
    ) -> Session:
        """Resolve a protocol for a place.

        Args:
            protocol: A file, or the name of a shipped protocol.
            place: The place.
            card: The cell's card; by default the place's, then the protocol's.
            sets: Parameters as ``name=value``.
            shared: Instruments that other runs of this process use too.

        Raises:
            InputError: With what is wrong, where, and what would be right.
        """
        self.file.of_place(place)
        found, text = load_card(protocol, card or self._card_of(place))
        return self.put(load_protocol(protocol, found, parse_settings(sets)), text, place, shared)

    def put(
        self, program: Program, card_text: str, place: str, shared: Collection[str] = ()
    ) -> Session:
        """Put a program on a place; other arguments, and errors, as of `session`."""
        file = self.file.of_place(place)
        simulated = self.simulator is not None
        if simulated and place not in self._simulated:
            raise InputError(
                f"{place} names no card (nor simulate: NAME), so that no cell is simulated there; "
                "give --sim-cell NAME"
            )
        return Session(
            program=program,
            card_text=card_text,
            file=file,
            bench_text=file.text(),
            simulator=self.simulator,
            seed=self._seed if simulated else None,
            beside=self._bench.beside,
            simulated_cell=self._simulated.get(place),
            shared=frozenset(file.instruments) & frozenset(shared),
            bench_file=None if simulated else self._bench.path,
        )

    def _play(self) -> SimulatedBench:
        """Return the simulated bench with a cell wherever it is known which."""
        file = self.file
        known = {name: self._cell_for(name) for name in self._names}
        self._simulated = {name: cell for name, cell in known.items() if cell is not None}
        if not self._simulated:
            raise InputError(
                f"{file.bench}: no place names a card (or simulate: NAME), so that no cell can be "
                "simulated; give --sim-cell NAME"
            )
        used = {name for place in self._simulated for name in file.cells[place].names}
        return simulated_bench(
            next(iter(self._simulated.values())),
            self._seed,
            file.fixture.kind if file.fixture else DEFAULT_FIXTURE,
            {
                name: entry.model_dump(by_alias=True, exclude_none=True)
                for name, entry in file.instruments.items()
                if name in used
            },
            cells={
                name: file.cells[name].model_dump(by_alias=True, exclude_none=True) | {"cell": cell}
                for name, cell in self._simulated.items()
            },
        )

    def _card_of(self, place: str) -> str | None:
        return self._cards.get(place) or card_of(self._bench, place)

    def _cell_for(self, place: str) -> str | None:
        if (simulate := self.file.cells[place].simulate) is not None:
            return simulate
        card = self._card_of(place)
        by_card = None if card is None else load_card(None, card)[0].simulate
        return by_card or self._sim_cell


def card_of(bench: NamedBench, place: str) -> str | None:
    """The card of a place's cell, a file beside the bench file or a name."""
    card = bench.file.cells[place].card
    beside = None if card is None else bench.beside / card
    return str(beside) if beside is not None and beside.is_file() else card
