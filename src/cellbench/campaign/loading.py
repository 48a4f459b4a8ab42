"""From a campaign file to what can be carried out: every run found, and checked on its place.

All that is wrong is found before anything is energised, and told at its line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellbench import library
from cellbench.analysis import available
from cellbench.bench import BenchFile, simulated_benches
from cellbench.campaign.file import CampaignFile, Line, named, parse_campaign
from cellbench.campaign.outline import Outline, Trial, Turn, campaigns, kept, turns_of
from cellbench.engine.lending import needs_of
from cellbench.engine.named_bench import NamedBench, read_bench
from cellbench.engine.owner import Prepared, RunRequest
from cellbench.engine.places import Places
from cellbench.engine.session import Session, prepare
from cellbench.errors import InputError
from cellbench.protocol import Problem, ProtocolError, check, load_card, plan
from cellbench.protocol.source import SourceNode, load, read_document
from cellbench.store import Store

#: More runs than a laboratory has in years: a slip of the pen.
_MOST_TURNS = 10_000


@dataclass(frozen=True)
class Campaign:
    """A campaign that can be carried out.

    Attributes:
        bench: Its bench file, None for the usual simulated bench.
        file: What that says, None likewise.
        prepared: What is run, by line and cell.
    """

    outline: Outline
    bench: Path | None
    file: BenchFile | None
    prepared: Mapping[tuple[int, str], Prepared]

    @property
    def simulated(self) -> bool:
        """Whether its bench goes with the process."""
        return self.file is None or self.file.is_simulated

    @property
    def places(self) -> Collection[str]:
        """Of a bench of many, none of one with a single cell."""
        return places_of(self.file)

    def clock(self, speed: float | None = None) -> dict[str, Any]:
        """How time passes there, see `BenchFile.clock`."""
        return next(iter(self.prepared.values())).session.file.clock(speed)

    def of(self, turn: Turn) -> Prepared:
        """What a turn is."""
        return self.prepared[turn.line, turn.cell]

    def request(self, turn: Turn) -> RunRequest:
        """What is asked of the bench at a turn."""
        request = self.of(turn).request
        return replace(request, campaign=self.outline.name, replicate=turn.replicate)


def places_of(file: BenchFile | None) -> Collection[str]:
    """Places of a bench of many, none of one with a single cell."""
    return () if file is None else tuple(file.cells)


def load_campaign(path: Path, bench: Path | None = None) -> Campaign:
    """Load a campaign, find everything that it names, and check each run on its place.

    Args:
        path: Its file; what that names is looked for beside it.
        bench: A bench file that is taken instead of its own.

    Raises:
        ProtocolError: Something is wrong; the problems tell where.
        InputError: ``bench`` is wrong.
    """
    root = load(read_document(path))
    return _Loading(root, parse_campaign(root), path, bench).campaign()


def outline_of(named: str, store: Store) -> Outline:
    """Return the outline of a campaign, as it was last begun, or as its file says.

    Args:
        named: Its name, or its file.
        store: Where it was begun.

    Raises:
        InputError: There is no such file, and none of that name was begun.
    """
    path = Path(named)
    if path.is_file():
        name = parse_campaign(load(read_document(path))).name
        return kept(store, name) or load_campaign(path).outline
    found = kept(store, named)
    if found is None:
        names = ", ".join(f'"{each}"' for each in campaigns(store)) or "none yet"
        raise InputError(
            f'there is no file "{named}", and no campaign of that name in {store.directory}; '
            f"begun were: {names}"
        )
    return found


class _Loading:
    """Finds what a campaign file names, and collects what is wrong with it."""

    def __init__(
        self, root: SourceNode, file: CampaignFile, path: Path, bench: Path | None
    ) -> None:
        self._root, self._file, self._path = root, file, path
        self._bench = bench or self._own_bench()
        self._named = None if self._bench is None else read_bench(self._bench)
        self._bench_file = None if self._named is None else self._named.file
        self._places = places_of(self._bench_file)
        self._problems: list[Problem] = []

    def campaign(self) -> Campaign:
        """All of it."""
        turns = turns_of(self._file, self._places)
        if len(turns) > _MOST_TURNS:
            self._at("replicates").fail(f"these are {len(turns)} runs; a campaign has at most "
                                        f"{_MOST_TURNS}")  # fmt: skip
        cells, protocols = list(self._cells()), list(self._protocols())
        self._raise()
        requests = {
            (number, cell): RunRequest(protocol, cell if self._places else "", card, line.settings)
            for number, (line, protocol) in enumerate(zip(self._file.runs, protocols, strict=True))
            for cell, card in cells
        }
        prepared = self._prepare(requests)
        self._require_distinct(prepared)
        trials = tuple(_trial(*key, each) for key, each in prepared.items())
        outline = Outline(
            name=self._file.name,
            file=str(self._path.absolute()),
            each_cell=self._file.replicates is not None,
            turns=turns,
            trials=trials,
        )
        return Campaign(outline, self._bench, self._bench_file, prepared)

    def _raise(self) -> None:
        if self._problems:
            raise ProtocolError(self._problems)

    def _at(self, *path: str | int) -> SourceNode:
        return self._root.at(path)

    # --- What it names --------------------------------------------------------------------------

    def _own_bench(self) -> Path | None:
        named = self._file.bench
        if named is None:
            return None
        beside = self._path.parent / named
        if beside.is_file():
            return beside
        shipped = simulated_benches()
        if named not in shipped:
            self._at("bench").fail(
                f'there is no file "{named}" beside this one, and no simulated bench of that name',
                f"There are: {', '.join(shipped)}.",
            )
        return Path(named)

    def _cells(self) -> Iterator[tuple[str, str | None]]:
        """Each cell with its card, None for the one of its place."""
        first: dict[str, int] = {}
        for index, cell in enumerate(self._file.cells):
            place = self._at("cells", index)
            if cell in first:
                cure = "" if self._places else 'Several cells with one card are "replicates: 3".'
                line = self._at("cells", first[cell]).line
                self._add(place, f'"{cell}" stands there twice (first in line {line})', cure)
                continue
            first[cell] = index
            if self._places:
                if cell not in self._places:
                    hint = _hint(cell, self._places)
                    self._add(place, f'there is no place "{cell}" on the bench; {hint}')
                yield cell, None
            else:
                yield cell, self._card(cell, place)

    def _card(self, name: str, place: SourceNode) -> str:
        """The card that a cell is named by."""
        try:
            found = self._find(name, library.card_names(), library.shipped_card)
            load_card(None, found)
        except ProtocolError as error:
            self._problems += error.problems
        except InputError as error:
            self._add(place, str(error))
        else:
            return found
        return name

    def _protocols(self) -> Iterator[str]:
        for index, line in enumerate(self._file.runs):
            names = library.protocol_names()
            try:
                yield self._find(line.protocol, names, library.shipped_protocol)
            except InputError as error:
                self._add(self._at("runs", index, "protocol"), str(error))

    def _find(self, name: str, shipped: Collection[str], by_name: Callable[[str], Path]) -> str:
        """What a name stands for; whoever finds the shipped ones tells what else was meant."""
        return named(name, self._path.parent, shipped) or str(by_name(name))

    def _add(self, place: SourceNode, message: str, cure: str = "") -> None:
        self._problems.append(place.problem(message, cure))

    # --- Whether it can be run ------------------------------------------------------------------

    def _prepare(
        self, requests: Mapping[tuple[int, str], RunRequest]
    ) -> dict[tuple[int, str], Prepared]:
        """Resolve every run, and check it."""
        refusals, resolved = _Refusals(), _resolver(self._named)
        analyses = available()
        found = {}
        for key, request in requests.items():
            try:
                found[key] = _prepared(request, resolved(request), analyses)
            except InputError as error:
                refusals.add(*key, error)
        self._problems += refusals.told(self._root, self._file.runs, self._file.cells)
        self._raise()
        return found

    def _require_distinct(self, prepared: Mapping[tuple[int, str], Prepared]) -> None:
        """On a bench with one cell its card alone tells whose run it was."""
        first: dict[str, str] = {}
        for index, cell in enumerate(() if self._places else self._file.cells):
            name = prepared[0, cell].session.card.cell
            if name in first:
                text = f'its card is of the cell "{name}", as that of {first[name]}'
                self._at("cells", index).fail(text, "Give each cell a name of its own.")
            first[name] = cell


def _resolver(bench: NamedBench | None) -> Callable[[RunRequest], Session]:
    """Return what resolves a request on a bench."""
    if bench is None or not bench.file.cells:
        path = None if bench is None else bench.path
        return lambda request: prepare(
            request.protocol, cell=request.cell, bench=path, sets=request.sets
        )
    places = Places(bench)
    return lambda request: places.session(
        request.protocol,
        request.place,
        card=request.cell,
        sets=request.sets,
        shared=bench.file.shared,
    )


def _prepared(request: RunRequest, session: Session, analyses: Collection[str]) -> Prepared:
    """Check a run as `cellbench check` does.

    Raises:
        ProtocolError: It cannot be carried out there.
    """
    declared = session.declared()
    check(session.program, declared, analyses).raise_problems()
    planned = plan(session.program, declared)
    needs = needs_of(session.program, planned, session.file, session.shared, session.beside)
    return Prepared(request, session, planned, needs)


def _trial(line: int, cell: str, prepared: Prepared) -> Trial:
    program = prepared.session.program
    parameters = {name: each.text for name, each in program.parameters.items()}
    return Trial(
        line=line, cell=cell, protocol=program.name, card=program.card.cell, parameters=parameters
    )


class _Refusals:
    """Why runs cannot be: what is one reason for several cells is told once."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, Problem], list[str]] = {}

    def add(self, line: int, cell: str, error: InputError) -> None:
        """Take note of why a line cannot be run on a cell."""
        problems = error.problems if isinstance(error, ProtocolError) else [Problem(str(error))]
        for problem in problems:
            self._cells.setdefault((line, problem), []).append(cell)

    def told(
        self, root: SourceNode, runs: Sequence[Line], cells: Sequence[str]
    ) -> Iterator[Problem]:
        """The reasons, each at its line of the campaign."""
        for (line, problem), refused in self._cells.items():
            node = root.at(("runs", line))
            setting = _setting(node, problem)
            if setting is not None:
                yield setting
                continue
            where = f"{problem.file}, line {problem.line}: " if problem.line else ""
            on = "" if len(refused) == len(cells) else f" on {', '.join(refused)}"
            text = f'"{runs[line].protocol}" cannot be run{on}: {where}{problem.message}'
            yield node.at(("protocol",)).problem(text, problem.cure)


_SET = "--set "


def _setting(node: SourceNode, problem: Problem) -> Problem | None:
    """A problem of a parameter that is set, at its line; None for another problem."""
    if problem.file.startswith(_SET):
        name = problem.file.removeprefix(_SET)
        return node.at(("set", name)).problem(problem.message, problem.cure)
    if not problem.file and problem.message.startswith(_SET):
        name, _, text = problem.message.removeprefix(_SET).partition(": ")
        return node.at(("set",)).key_problem(name, text, problem.cure)
    return None


def _hint(written: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(written, known, 1, 0.5)
    return f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(known)}"
