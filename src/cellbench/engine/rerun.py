"""Running a recorded run's protocol, card and parameters again, on the simulated bench."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cellbench.engine.evaluation import evaluate
from cellbench.engine.recorded import LedgerEntry, Recording, ledger_of
from cellbench.engine.replay import bench_file, program_of
from cellbench.engine.session import Session, on_simulated_bench
from cellbench.engine.simulation import conduct
from cellbench.protocol.source import document_of
from cellbench.store import Store
from cellbench.wiring import DEFAULT_FIXTURE

#: Numbers of analyses that differ by less than this fraction agree.
TOLERANCE = 0.05
#: Below this a number is as good as zero.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A step or a result that is not as it was; None where there is none."""

    what: str
    before: str | float | None
    now: str | float | None


@dataclass(frozen=True)
class Rerun:
    """What running it again came to.

    Attributes:
        steps: Steps of the ledger that ended differently, or are in one of the two alone.
        results: Numbers (and words) of the analyses that differ by more than the tolerance.
        steps_compared, results_compared: How many there are of each.
        largest: The largest difference of a number, as a fraction, within the tolerance or not.
    """

    run: str
    state: str
    reason: str
    steps: Sequence[Difference]
    results: Sequence[Difference]
    steps_compared: int
    results_compared: int
    largest: float

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.steps and not self.results


def session_of(
    recording: Recording,
    *,
    sim_cell: str | None = None,
    fixture: str | None = None,
    seed: int | None = None,
    protocol: Path | None = None,
    sets: Sequence[str] = (),
) -> Session:
    """Put a recorded run's program on the simulated bench; by default what it was on, if it was.

    Raises:
        InputError: It cannot be put there.
    """
    program = program_of(recording, protocol, sets)
    held_by = bench_file(recording).fixture
    return on_simulated_bench(
        program,
        recording.documents["cell"],
        sim_cell or recording.environment.get("simulated_cell"),
        fixture or (held_by.kind if held_by is not None else DEFAULT_FIXTURE),
        (recording.run.seed or 0) if seed is None else seed,
        document_of(recording.documents["bench"], f"the bench of run {recording.run.id}"),
    )


def rerun(session: Session, recording: Recording, tolerance: float = TOLERANCE) -> Rerun:
    """Run it, and compare ledger and analyses with what was recorded."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Store(Path(directory)) as store,
    ):
        end = conduct(session, store)
        evaluation = evaluate(store, end.run, session.card)
        ledger = ledger_of(evaluation.reader.journal)
        # As they would be read from a file: numpy's numbers are Python's, tuples are lists.
        now = json.loads(json.dumps(dict(evaluation.results)))
    before = json.loads(json.dumps(dict(recording.results or {})))
    pairs = list(_pairs(before, now))
    apart = [_apart(was, then) for _, was, then in pairs]
    return Rerun(
        run=recording.run.id,
        state=str(end.state),
        reason=end.reason,
        steps=list(_other_steps(recording.ledger, ledger)),
        results=[
            Difference(*pair) for pair, away in zip(pairs, apart, strict=True) if away > tolerance
        ],
        steps_compared=max(len(recording.ledger), len(ledger)),
        results_compared=len(pairs),
        largest=max((away for away in apart if away != float("inf")), default=0.0),
    )


def _other_steps(before: Sequence[LedgerEntry], now: Sequence[LedgerEntry]) -> Iterator[Difference]:
    """Steps by path, in order; a path that was walked twice is two steps."""
    first, second = _by_path(before), _by_path(now)
    for path in dict.fromkeys([*first, *second]):
        for was, then in zip_longest(first.get(path, []), second.get(path, [])):
            if was != then:
                yield Difference(path, was, then)


def _by_path(ledger: Sequence[LedgerEntry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in ledger:
        found.setdefault(entry.path, []).append(f"{entry.verb}: {entry.ending or 'not ended'}")
    return found


def _pairs(before: Any, now: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each number and word of two answers, side by side, with its place."""
    if isinstance(before, Mapping) or isinstance(now, Mapping):
        first, second = before or {}, now or {}
        for name in dict.fromkeys([*first, *second]):
            place = f"{where}.{name}" if where else name
            yield from _pairs(first.get(name), second.get(name), place)
    elif isinstance(before, list) or isinstance(now, list):
        for index, (was, then) in enumerate(zip_longest(before or [], now or [])):
            yield from _pairs(was, then, f"{where}[{index}]")
    else:
        yield where, before, now


def _apart(before: Any, now: Any) -> float:
    """How far two values are apart, as a fraction of the larger; infinite for words."""
    if isinstance(before, int | float) and isinstance(now, int | float):
        size = max(abs(before), abs(now))
        return abs(before - now) / size if size > _NOTHING else 0.0
    return 0.0 if before == now else float("inf")
