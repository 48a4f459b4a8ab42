"""Emulated instruments that speak SCPI: one command after the other, each in the time it takes.

The commands that IEEE 488.2 demands of all of them are here: ``*IDN?``, ``*RST``, ``*CLS``,
``*OPC``, ``*OPC?``, ``*WAI``, ``*ESE``, ``*ESR?``, ``*SRE``, ``*STB?``, ``*TST?``, and the queue of
errors behind ``SYSTem:ERRor?``. After an invalid command the rest of its message is ignored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar

from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.emulators.scpi import (
    Call,
    Commands,
    Event,
    EventLog,
    ScpiError,
    Steps,
    split_message,
)

_OPERATION_COMPLETE, _POWER_ON = 1, 128
_ERRORS_WAIT, _EVENTS_SUMMARY, _MASTER_SUMMARY = 4, 32, 64


class ScpiEmulator(LineEmulator):
    """Serves messages in the order in which they came, and remembers what went wrong.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        queue: How many errors its queue holds.

    Attributes:
        commands: What it understands.
        events: Its log of events.
    """

    ends: ClassVar[bytes] = b"\r\n"

    def __init__(self, name: str, timebase: Timebase, *, queue: int) -> None:
        super().__init__(name, timebase)
        self.commands = Commands()
        self.events = EventLog(queue)
        self._waiting: deque[str] = deque()
        self._running: Generator[float | None, None, None] | None = None
        self._asleep = False
        self._complete_wanted = False
        self._session = 0
        self._event_status, self._event_enable, self._service_enable = _POWER_ON, 0, 0
        self._add_common_commands()

    @property
    @abstractmethod
    def _identity(self) -> str:
        """What ``*IDN?`` answers."""

    @abstractmethod
    def _reset(self) -> None:
        """Do what ``*RST`` does."""

    def _operating(self) -> bool:
        """Whether something goes on beside the commands, for which ``*OPC?`` waits."""
        return False

    def _format_event(self, event: Event | None) -> str:
        return f'{event.code},"{event.text}"' if event else '0,"No error"'

    def _status_bits(self) -> int:
        """Bits of the status byte that are the instrument's own."""
        return 0

    def log(self, code: int, text: str, kind: int = 1) -> None:
        """Enter an event into the log."""
        self.events.add(Event(code, text, kind, self._timebase.now()))

    def wake(self) -> None:
        """Something that went on beside the commands has ended: go on with those that waited."""
        self._note_if_complete()
        if self._asleep:
            self._asleep = False
            self._advance()

    # ------------------------------------------------------------------ messages

    def _on_attach(self) -> None:
        super()._on_attach()
        self._session += 1
        self._waiting.clear()
        if self._asleep:
            self._asleep, self._running = False, None

    def _line(self, text: str) -> None:
        if not text.strip():
            return
        self._waiting.append(text)
        if self._running is None:
            self._serve()

    def _serve(self) -> None:
        while self._running is None and self._waiting:
            self._running = self._message(self._waiting.popleft(), self._session)
            self._advance()

    def _advance(self) -> None:
        """Let the present message do what is due, and set the timer for what comes next."""
        while self._running is not None:
            try:
                due_s = next(self._running)
            except StopIteration:
                self._running = None
                self._serve()
                return
            if due_s is None:
                self._asleep = True
                return
            if due_s > self._timebase.now():
                self._call_at(due_s, self._advance)
                return

    def _message(self, text: str, session: int) -> Generator[float | None, None, None]:
        replies: list[str] = []
        try:
            for unit in split_message(text):
                outcome = self.commands.call(unit)
                if isinstance(outcome, Generator):
                    outcome = yield from outcome
                if outcome is not None:
                    replies.append(outcome)
        except ScpiError as error:
            self.refuse(error)
        if replies and session == self._session:
            self._send(";".join(replies).encode("latin-1") + b"\n")

    def refuse(self, error: ScpiError) -> None:
        """Enter an error into the log and into the event status register."""
        kind = {-1: 32, -2: 16, -4: 4}.get(-(-error.code // 100) if error.code < 0 else 0, 8)
        self._event_status |= kind
        self.log(error.code, error.text)

    # ------------------------------------------------------------------ common commands

    def _add_common_commands(self) -> None:
        add = self.commands.add
        add("*IDN?", lambda _: self._identity)
        add("*RST", lambda _: self._reset())
        add("*CLS", lambda _: self._clear_status())
        add("*TST?", lambda _: "0")
        add("*OPC", self._note_completion)
        add("*OPC?", lambda _: self._until_complete("1"))
        add("*WAI", lambda _: self._until_complete(None))
        add("*ESE", self._enable_events, 1)
        add("*ESE?", lambda _: str(self._event_enable))
        add("*ESR?", lambda _: str(self._take_event_status()))
        add("*SRE", self._enable_service, 1)
        add("*SRE?", lambda _: str(self._service_enable))
        add("*STB?", lambda _: str(self._status_byte()))
        add("SYSTem:ERRor[:NEXT]?", lambda _: self._format_event(self.events.next(1)))
        add("SYSTem:ERRor:COUNt?", lambda _: str(self.events.count(1)))
        add("SYSTem:ERRor:CODE[:NEXT]?", lambda _: self._next_code())
        add("SYSTem:CLEar", lambda _: self.events.clear())
        add("SYSTem:VERSion?", lambda _: "1999.0")

    def _clear_status(self) -> None:
        self.events.clear()
        self._event_status, self._complete_wanted = 0, False

    def _note_completion(self, _: Call) -> None:
        self._complete_wanted = True
        self._note_if_complete()

    def _note_if_complete(self) -> None:
        if self._complete_wanted and not self._operating():
            self._complete_wanted = False
            self._event_status |= _OPERATION_COMPLETE

    def _until_complete(self, reply: str | None) -> Steps:
        while self._operating():
            yield None
        return reply

    def _enable_events(self, call: Call) -> None:
        self._event_enable = call.integer(0, 0, 255)

    def _enable_service(self, call: Call) -> None:
        self._service_enable = call.integer(0, 0, 255) & ~_MASTER_SUMMARY

    def _take_event_status(self) -> int:
        status, self._event_status = self._event_status, 0
        return status

    def _next_code(self) -> str:
        event = self.events.next(1)
        return str(event.code) if event else "0"

    def _status_byte(self) -> int:
        status = self._status_bits()
        if self.events.count(1):
            status |= _ERRORS_WAIT
        if self._event_status & self._event_enable:
            status |= _EVENTS_SUMMARY
        return status | (_MASTER_SUMMARY if status & self._service_enable else 0)


@dataclass
class Settings:
    """Adds commands that set an attribute, and queries that answer it.

    Attributes:
        commands: Where they are added.
        check: Called before a change; raises what forbids it.
        changed: Called after a change.
    """

    commands: Commands
    check: Callable[[], None]
    changed: Callable[[], None]

    def number(
        self,
        pattern: str,
        holder: Callable[[Call], object],
        attribute: str,
        limits: tuple[float, float, float],
    ) -> None:
        """Add a number: least, largest, default."""
        low, high, default = limits
        named = {"MIN": low, "MAX": high, "DEF": default}

        def answer(call: Call) -> str:
            if len(call):
                return f"{named[call.choice(0, 'MINimum', 'MAXimum', 'DEFault')]:+.6E}"
            return f"{getattr(holder(call), attribute):+.6E}"

        self._add(pattern, holder, attribute, lambda call: call.number(0, low, high, default))
        self.commands.add(f"{pattern}?", answer, 0, 1)

    def integer(
        self,
        pattern: str,
        holder: Callable[[Call], object],
        attribute: str,
        limits: tuple[int, int, int],
    ) -> None:
        """Add a whole number: least, largest, default."""
        low, high, default = limits
        self._add(pattern, holder, attribute, lambda call: call.integer(0, low, high, default))
        self.commands.add(f"{pattern}?", lambda call: str(getattr(holder(call), attribute)))

    def flag(self, pattern: str, holder: Callable[[Call], object], attribute: str) -> None:
        """Add a switch: ON or OFF, answered as 1 or 0."""
        self._add(pattern, holder, attribute, lambda call: call.boolean(0))
        self.commands.add(f"{pattern}?", lambda call: str(int(getattr(holder(call), attribute))))

    def choice(
        self, pattern: str, holder: Callable[[Call], object], attribute: str, *words: str
    ) -> None:
        """Add a choice of words, answered in their short form."""
        self._add(pattern, holder, attribute, lambda call: call.choice(0, *words))
        self.commands.add(f"{pattern}?", lambda call: str(getattr(holder(call), attribute)))

    def _add(
        self,
        pattern: str,
        holder: Callable[[Call], object],
        attribute: str,
        read: Callable[[Call], object],
    ) -> None:
        def change(call: Call) -> None:
            self.check()
            setattr(holder(call), attribute, read(call))
            self.changed()

        self.commands.add(pattern, change, 1)
