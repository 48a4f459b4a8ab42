"""Commands that come through the broker: who may give them, and which of them count.

A message is an envelope of the operator's name, the command as JSON *text*, and the HMAC-SHA256 of
exactly that text under the operator's secret: the broker, and whoever may publish there, is not
trusted. The text names the run by its topic (so that it is worth nothing for another run or bench),
the time, and a counter that only ever rises and is kept on disk before the command is carried out:
a message counts once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cellbench.errors import CellbenchError
from cellbench.telemetry.cursor import Cursor
from cellbench.telemetry.limiter import Rare

CommandName = Literal["pause", "continue", "abort", "skip", "stop", "answer"]
#: What can be asked for; their arguments are those of the commands of the terminal.
COMMANDS: tuple[str, ...] = get_args(CommandName)
#: What makes a run safer, and is worth a message that could be repeated after a restart.
_STOPPING = frozenset({"pause", "abort"})
#: A command is some hundred bytes.
_MAX_BYTES = 4096
#: What stands in for the secret of an operator who is not known: the answer takes as long.
_NOBODY = bytes(32)
#: One refusal of a kind is entered in this time; the others are counted.
_REFUSALS_APART_S = 60.0


class Commands(Protocol):
    """Carries out commands, called on the loop that telemetry runs on; terminals use the same."""

    async def command(self, name: str, arguments: Mapping[str, Any], who: str) -> str:
        """Carry out a command, and enter in the journal who gave it; returns what was done.

        Args:
            name: The command.
            arguments: Its own.
            who: Who gave it through the broker; verified.

        Raises:
            CellbenchError: It is not possible now; says why.
        """


@dataclass(frozen=True)
class Operator:
    """One who may command, and what."""

    secret: bytes = field(repr=False)
    may: frozenset[str] = frozenset(COMMANDS)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class _Envelope(_Message):
    operator: str = Field(max_length=100)
    message: str
    mac: str = Field(max_length=64)


class _Order(_Message):
    topic: str = Field(alias="for")
    time: AwareDatetime
    counter: int = Field(ge=0, lt=2**63)
    command: CommandName
    arguments: dict[str, str] = Field(default_factory=dict)


class Refused(Exception):
    """A message has no effect.

    Args:
        kind: Which sort of refusal; what is entered once in a while only.
        message: What a person reads.
        answer: Whether its sender is told: only one who is who he says.
    """

    def __init__(self, kind: str, message: str, *, answer: bool = True) -> None:
        super().__init__(message)
        self.kind, self.answer = kind, answer


def sign(
    secret: bytes,
    operator: str,
    *,
    topic: str,
    counter: int,
    command: str,
    arguments: Mapping[str, str],
    time: datetime | None = None,
) -> bytes:
    """Return a command's message.

    Args:
        secret: The operator's.
        operator: The operator's name.
        topic: Of the run, without ``/command``.
        counter: Greater than that of every message before.
        command: One of `COMMANDS`.
        arguments: Of the command.
        time: When it is given; by default now.
    """
    order = {
        "for": topic,
        "time": (time or datetime.now(UTC)).isoformat(),
        "counter": counter,
        "command": command,
        "arguments": dict(arguments),
    }
    text = json.dumps(order)
    envelope = {"operator": operator, "message": text, "mac": _mac(secret, text)}
    return json.dumps(envelope).encode()


class Gate:
    """Lets through the commands that count, and enters which were refused.

    Args:
        operators: Those who may command.
        topic: Of the run, without ``/command``.
        cursor: Where the counters are kept.
        within_s: How far a message's time may be from this computer's.
        commands: Carries them out.
        say: Takes kind, text and data of what is entered in the journal.
    """

    def __init__(
        self,
        operators: Mapping[str, Operator],
        topic: str,
        cursor: Cursor,
        within_s: float,
        commands: Commands,
        say: Callable[..., None],
    ) -> None:
        self._operators, self._topic, self._cursor = operators, topic, cursor
        self._within_s, self._commands, self._say = within_s, commands, say
        self._refusals = Rare(_REFUSALS_APART_S)

    async def take(self, payload: bytes, *, retained: bool) -> dict[str, Any] | None:
        """Take one message; returns the answer to its sender, None where there is none."""
        try:
            operator, order = self._authentic(payload, retained=retained)
        except Refused as refusal:
            self._enter_refusal(refusal)
            return None
        answer = {"operator": operator, "counter": order.counter, "command": order.command}
        try:
            self._timely(operator, order)
            text = await self._carry_out(operator, order)
        except Refused as refusal:
            self._enter_refusal(refusal)
            return answer | {"accepted": False, "answer": str(refusal)}
        return answer | {"accepted": True, "answer": text}

    def _authentic(self, payload: bytes, *, retained: bool) -> tuple[str, _Order]:
        if retained or len(payload) > _MAX_BYTES:
            raise Refused("malformed", "a message that is retained or too long")
        try:
            envelope = _Envelope.model_validate_json(payload)
        except ValidationError as error:
            raise Refused("malformed", "a message that is no command") from error
        operator = self._operators.get(envelope.operator)
        expected = _mac(operator.secret if operator else _NOBODY, envelope.message)
        same = hmac.compare_digest(expected.encode(), envelope.mac.encode())
        if operator is None or not same:
            # The name is what a stranger wrote: it is not repeated in the journal.
            raise Refused("unauthenticated", "a command that no known operator has signed")
        try:
            order = _Order.model_validate_json(envelope.message)
        except ValidationError as error:
            text = f"a message by {envelope.operator} that is no command"
            raise Refused("malformed", text) from error
        return envelope.operator, order

    def _timely(self, name: str, order: _Order) -> None:
        who = f'"{order.command}" by {name}'
        if order.topic != self._topic:
            raise Refused("another run", f"{who}: it is for another run")
        age_s = (datetime.now(UTC) - order.time).total_seconds()
        if abs(age_s) > self._within_s:
            raise Refused("late", f"{who}: its time is {age_s:.0f} s before this computer's")
        if order.counter <= self._cursor.counter(name):
            raise Refused("replayed", f"{who}: the same message, or a later one, came before")
        if order.command not in self._operators[name].may:
            raise Refused("not allowed", f"{who}: {name} may not do this")
        try:
            self._cursor.count(name, order.counter)
        except OSError as error:
            # A full disk must not keep anybody from stopping a run.
            if order.command not in _STOPPING:
                text = f"{who}: it cannot be remembered ({error.strerror})"
                raise Refused("not possible", text) from error

    async def _carry_out(self, name: str, order: _Order) -> str:
        try:
            return await self._commands.command(order.command, order.arguments, name)
        except CellbenchError as error:
            raise Refused("not possible", f'"{order.command}" by {name}: {error}') from error
        except Exception as error:  # what failed is not who was told: others may still command
            text = f'"{order.command}" by {name}: internal error: {type(error).__name__}: {error}'
            raise Refused("not possible", text) from error

    def _enter_refusal(self, refusal: Refused) -> None:
        count = self._refusals.admits(refusal.kind)
        if count is None:
            return
        more = f" ({count} more like it before)" if count else ""
        self._say(
            "command refused",
            f"MQTT command refused, {refusal.kind}: {refusal}{more}",
            refused=refusal.kind,
            more_before=count,
        )


def _mac(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
