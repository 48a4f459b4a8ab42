"""What an engine tells its guard, one JSON object per line, with the run that it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeAlias

from cellbench.instruments.techniques import ElectricalLimits


@dataclass(frozen=True)
class Watch:
    """The first message of a run: who is watched, and what there is to be brought to quiet.

    Attributes:
        pid, process_started: Of the engine; see `cellbench.system.process_start`.
        ledger: Where the ledger is.
        bench: The text of the bench file.
        beside: Directory of the bench file.
        limits: Electrical limits of the cell, for looking at its voltage afterwards.
        silence_s: Silence of the engine that counts as its loss; None: only its end does.
        speed: Seconds per second of a simulated bench that another process serves.
        shared: Instruments that other runs of the engine use too.
    """

    run: str
    pid: int
    process_started: float | None
    ledger: str
    bench: str
    beside: str | None
    limits: Mapping[str, float]
    silence_s: float | None
    speed: float = 1.0
    shared: Sequence[str] = ()

    @property
    def electrical(self) -> ElectricalLimits:
        """The limits as drivers take them."""
        return ElectricalLimits(**self.limits)


@dataclass(frozen=True)
class Beat:
    """The engine lives: its safety pass is through."""


@dataclass(frozen=True)
class Step:
    """The step under way, and what becomes of it without the engine.

    Attributes:
        path: Of the step.
        continues: Channels to be left alone, each with the time in s, from now, after which the
            instrument has ended the step by itself at the latest.
    """

    path: str
    continues: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Over:
    """The engine has left the bench, of its own accord: there is nothing left to guard.

    Attributes:
        unknown: Instruments whose safe state it could not read back.
    """

    unknown: Sequence[str] = field(default_factory=list)


Message: TypeAlias = Watch | Beat | Step | Over
_KINDS: Mapping[str, type[Any]] = {"watch": Watch, "beat": Beat, "step": Step, "over": Over}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Messages(Protocol):
    """Where messages come from."""

    async def next(self) -> Message | None:
        """Wait for the next message; None, from then on, when the engine's end is closed."""


def to_line(run: str, message: Message) -> bytes:
    """Write a message of a run as the line that goes through the pipe."""
    return json.dumps([run, _NAMES[type(message)], asdict(message)]).encode() + b"\n"


def from_line(line: bytes) -> tuple[str, Message]:
    """Read a line of the pipe: the run, and what is said of it.

    Raises:
        ValueError: It is none.
    """
    try:
        run, name, values = json.loads(line)
        message: Message = _KINDS[name](**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no message to a guard: {line[:80]!r}") from error
    return run, message
