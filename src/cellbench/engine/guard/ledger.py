"""The guard's ledger: what it noticed, did and read back, as JSON lines beside the run's file.

Append-only, each line on disk before the guard goes on. A disk that takes no line never keeps the
guard from its work: lines wait for the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from cellbench.errors import StoreError
from cellbench.instruments.readings import Outcome

#: Tells what time it is.
Utc: TypeAlias = Callable[[], datetime]


class Kind(StrEnum):
    """Kinds of lines."""

    WATCHING = "watching"  #: a guard is there
    OVER = "over"  #: its engine came to its own end
    NOTICED = "noticed"  #: its engine is lost
    ENGINE = "engine"  #: what became of the engine's process
    LEFT_ALONE = "left alone"  #: a channel that goes on by itself
    OUTCOME = "outcome"  #: of an instrument on its way to quiet
    READING = "reading"  #: what an instrument read afterwards
    TROUBLE = "trouble"  #: what went wrong afterwards
    QUIET = "quiet"  #: all of it is confirmed
    ENDED = "ended"  #: nothing is left to be done, or the bench was given to somebody


def ledger_path(run_file: Path) -> Path:
    """Where the ledger of a run's guard is: beside the run's file."""
    return run_file.with_suffix(".guard.jsonl")


def errors_path(ledger: Path) -> Path:
    """Where a guard that fails itself tells why."""
    return ledger.with_suffix(".err")


def forget_empty(errors: Path) -> None:
    """Remove the file of a guard's own errors where it had none."""
    with suppress(OSError):
        if not errors.stat().st_size:
            errors.unlink()


class Ledger:
    """Writes lines.

    Args:
        path: The file, made if need be.
        utc: What time it is.
    """

    def __init__(self, path: Path, utc: Utc = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._utc = utc
        # Behind half a line that a guard before this one, or a full disk, has left.
        self._waiting = ["\n"] if path.exists() else []

    def enter(self, kind: Kind, text: str = "", **data: Any) -> None:
        """Enter one fact; on disk when this returns, if the disk takes it."""
        line = {"utc": self._utc().isoformat(), "kind": kind, "text": text} | data
        self._waiting.append(json.dumps(line, ensure_ascii=False) + "\n")
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(self._waiting))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # The bench comes first; what waits goes with the next line.
            self._waiting = ["\n", *(each for each in self._waiting if each != "\n")]
            return
        self._waiting.clear()


@dataclass
class GuardAct:
    """What a guard did about one loss of its engine.

    Attributes:
        noticed: When it noticed (UTC).
        why: How.
        step: Path of the step that was under way.
        engine: What became of the engine's process.
        channels: Names of all channels of the bench.
        left_alone: Channels that it left alone, with what it said of each.
        outcomes: The last one of each instrument, confirmed or unknown.
        troubles: What went wrong afterwards.
        readings: What was read afterwards, by instrument: ``voltage_V``, ``force_N``,
            ``temperature_K``.
        open_circuit: When the cell was first known to be at open circuit: each channel was
            confirmed (UTC); None if that never was.
        quiet: When the whole bench was confirmed (UTC), None if it never was.
        ended: When the guard ended (UTC), None if it was still at it, or died.
        ending: Why: there was nothing left to do, or to whom it gave the bench.
    """

    noticed: datetime
    why: str
    step: str
    engine: str = ""
    channels: Sequence[str] = ()
    left_alone: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    readings: dict[str, Mapping[str, float]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    open_circuit: datetime | None = None
    quiet: datetime | None = None
    ended: datetime | None = None
    ending: str = ""

    def note(self, line: Mapping[str, Any], utc: datetime) -> None:
        """Take in one more line of the ledger."""
        match line["kind"]:
            case Kind.ENGINE:
                self.engine = line["text"]
            case Kind.LEFT_ALONE:
                self.left_alone[line["instrument"]] = line["text"]
            case Kind.OUTCOME:
                name = line["instrument"]
                self.outcomes[name] = Outcome(name, line["state"], line["confirmed"])
                confirmed = {each for each, last in self.outcomes.items() if last.confirmed}
                if self.open_circuit is None and self.channels and confirmed >= {*self.channels}:
                    self.open_circuit = utc
            case Kind.READING:
                self.readings[line["instrument"]] = line["values"]
            case Kind.TROUBLE:
                self.troubles.append(line["text"])
            case Kind.QUIET:
                self.quiet = self.quiet or utc
            case Kind.ENDED:
                self.ended, self.ending = utc, line["text"]


@dataclass(frozen=True)
class GuardReport:
    """A guard's ledger, folded.

    Attributes:
        acts: One for each loss of an engine that a guard noticed, oldest first; none where the
            engine always came to its own end.
        watched: Whether a guard was there at all.
    """

    acts: Sequence[GuardAct]
    watched: bool

    @property
    def last(self) -> GuardAct | None:
        """What was done about the last loss, None if there was none."""
        return self.acts[-1] if self.acts else None


def read_ledger(path: Path) -> GuardReport:
    """Fold the ledger of a run's guard; one that is not there tells that nobody guarded.

    Raises:
        StoreError: It cannot be read, or is no such ledger.
    """
    acts: list[GuardAct] = []
    watched = False
    try:
        for line, utc in _lines(path):
            watched = True
            if line["kind"] == Kind.NOTICED:
                acts.append(
                    GuardAct(utc, line["text"], line["step"], channels=tuple(line["channels"]))
                )
            elif acts and line["kind"] not in {Kind.WATCHING, Kind.OVER}:
                acts[-1].note(line, utc)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no ledger of a guard: {error}") from error
    return GuardReport(acts, watched)


def is_closed(path: Path) -> bool:
    """Whether the last guard that wrote in a ledger is done with its run."""
    last = ""
    for line, _ in _lines(path):
        last = line["kind"]
    return last in {Kind.OVER, Kind.ENDED}


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], datetime]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    for written in text.splitlines():
        try:
            line = json.loads(written)
        except ValueError:
            continue  # half a line of a guard that was killed, or none
        yield line, datetime.fromisoformat(line["utc"])
