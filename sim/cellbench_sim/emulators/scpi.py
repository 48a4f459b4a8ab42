"""SCPI as an instrument hears it: compound messages, short and long headers, parameters, errors.

Knows the standard (SCPI-99, IEEE 488.2) and no instrument; `scpi_device` makes an emulator of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache, lru_cache

#: Texts of the errors that the standard numbers.
TEXTS = {
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -151: "Invalid string data",
    -171: "Invalid expression",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Parameter data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
}
_WORD = re.compile(r"\*?[A-Z]+[a-z]*")
_NUMBERS = {"INF": math.inf, "INFINITY": math.inf, "NAN": math.nan}


class ScpiError(Exception):
    """What an instrument enters into its queue of errors.

    Args:
        code: Number of the error; negative ones are the standard's.
        text: What it says; by default the standard's words.
    """

    def __init__(self, code: int, text: str | None = None) -> None:
        self.code = code
        self.text = TEXTS[code] if text is None else text
        super().__init__(f"{code}, {self.text}")


@dataclass(frozen=True)
class Unit:
    """One command or query of a message.

    Attributes:
        header: From the root, in capitals, without the first colon and the question mark.
        query: Whether it asks.
        parameters: As they were sent.
    """

    header: str
    query: bool
    parameters: tuple[str, ...]


@cache
def short_form(word: str) -> str:
    """Return the capitals (and digits) of a mnemonic as manuals print it: ``VOLT`` of VOLTage."""
    return "".join(letter for letter in word if not letter.islower())


@cache
def names_of(word: str) -> tuple[str, str]:
    """Return the long and the short form of a mnemonic, in capitals."""
    return word.upper(), short_form(word)


@lru_cache(maxsize=256)  # a host that polls says the same again and again
def split_message(text: str) -> tuple[Unit, ...]:
    """Take a message apart; a header without a colon goes on where the one before it was.

    Raises:
        ScpiError: A quotation mark or a parenthesis is not closed, or a header is missing.
    """
    units: list[Unit] = []
    path: list[str] = []
    for part in _split(text, ";"):
        if not part:
            continue
        header, _, rest = part.partition(" ")
        header = header.upper()
        query = header.endswith("?")
        bare = header.removesuffix("?")
        if bare.lstrip(":").startswith("*"):
            bare = bare.lstrip(":")
        else:
            nodes = bare.removeprefix(":").split(":")
            nodes = nodes if bare.startswith(":") else path + nodes
            if not all(nodes):
                raise ScpiError(-102)
            path, bare = nodes[:-1], ":".join(nodes)
        parameters = tuple(_split(rest, ",")) if rest.strip() else ()
        units.append(Unit(bare, query, parameters))
    return tuple(units)


def _split(text: str, separator: str) -> list[str]:
    """Split outside quotation marks and parentheses, and strip."""
    parts: list[str] = []
    part: list[str] = []
    quote, depth = "", 0
    for letter in text.replace("\t", " "):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if letter == separator and depth == 0:
                parts.append("".join(part).strip())
                part = []
                continue
        part.append(letter)
    if quote:
        raise ScpiError(-151)
    if depth:
        raise ScpiError(-171)
    return [*parts, "".join(part).strip()]


def unquote(text: str) -> str:
    """Return a string parameter without its quotation marks."""
    quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1] if quoted else text


def channel_list(text: str) -> list[str]:
    """Return the channels of ``(@101,103:105)``, in the order in which they are named.

    Raises:
        ScpiError: This is no channel list.
    """
    inside = re.fullmatch(r"\(\s*@\s*([\d\s,:]*)\)", text)
    if inside is None:
        raise ScpiError(-171)
    channels: list[str] = []
    for part in inside[1].split(","):
        ends = re.fullmatch(r"\s*(\d{1,5})(?:\s*:\s*(\d{1,5}))?\s*", part)
        if ends is None:
            if inside[1].strip():
                raise ScpiError(-171)
            continue
        first, last = int(ends[1]), int(ends[2] or ends[1])
        step = 1 if last >= first else -1
        channels += [str(number) for number in range(first, last + step, step)]
    return channels


class Call:
    """A command that has been recognised, and access to its parameters.

    Args:
        captured: What stood in the pattern's parentheses (short form) and at its ``#`` (digits).
        parameters: As they were sent.
    """

    def __init__(self, captured: tuple[str, ...], parameters: tuple[str, ...]) -> None:
        self.captured = captured
        self.parameters = parameters

    def __len__(self) -> int:
        return len(self.parameters)

    def raw(self, index: int) -> str:
        """Return a parameter as it was sent.

        Raises:
            ScpiError: It is missing.
        """
        if index >= len(self.parameters) or not self.parameters[index]:
            raise ScpiError(-109)
        return self.parameters[index]

    def number(self, index: int, low: float, high: float, default: float | None = None) -> float:
        """Return a number within limits; MIN, MAX and DEF name the limits and the default.

        Raises:
            ScpiError: It is missing, not a number, or outside.
        """
        text = self.raw(index).upper()
        named = {"MIN": low, "MINIMUM": low, "MAX": high, "MAXIMUM": high}
        if default is not None:
            named |= {"DEF": default, "DEFAULT": default}
        value = named.get(text, _NUMBERS.get(text))
        if value is None:
            try:
                value = float(text)
            except ValueError:
                raise ScpiError(-104) from None
        # What was computed in floats may miss a limit by one of its last digits.
        slack = 1e-9 * max(abs(low), abs(high)) if math.isfinite(high) else 0.0
        if not low - slack <= value <= high + slack:
            raise ScpiError(-222)
        return value

    def integer(self, index: int, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number within limits; others are rounded.

        Raises:
            ScpiError: It is missing, not a number, or outside.
        """
        return round(self.number(index, low, high, default))

    def boolean(self, index: int) -> bool:
        """Return ON, OFF, 1 or 0.

        Raises:
            ScpiError: It is missing, or none of these.
        """
        text = self.raw(index).upper()
        if text not in {"ON", "OFF", "1", "0"}:
            raise ScpiError(-224)
        return text in {"ON", "1"}

    def choice(self, index: int, *words: str) -> str:
        """Return the short form of one of ``words`` (as manuals print them: VOLTage).

        Raises:
            ScpiError: It is missing, or none of these.
        """
        text = unquote(self.raw(index)).upper()
        for word in words:
            if text in names_of(word):
                return short_form(word)
        raise ScpiError(-224)

    def text(self, index: int) -> str:
        """Return a string without its quotation marks.

        Raises:
            ScpiError: It is missing.
        """
        return unquote(self.raw(index))


#: Waits until the time that is yielded (the bench's), or for None until the device is woken.
Steps = Generator[float | None, None, str | None]
Handler = Callable[[Call], str | Steps | None]


class Commands:
    """What an instrument understands: patterns as manuals print them, and what is done.

    In a pattern, capitals are the short form, brackets hold what may be left out, parentheses
    hold alternatives (handed over, short form) and ``#`` stands for a number (handed over).

    Attributes:
        patterns: All of them, with the least and the largest number of parameters.
    """

    def __init__(self) -> None:
        self.patterns: list[tuple[str, int, int]] = []
        self._entries: list[tuple[re.Pattern[str], dict[str, str], bool, int, int, Handler]] = []
        self._found: dict[tuple[str, bool], tuple[Handler, tuple[str, ...], int, int]] = {}

    def add(self, pattern: str, handler: Handler, least: int = 0, most: int | None = None) -> None:
        """Add a command, or with ``?`` at its end a query, of so many parameters."""
        most = least if most is None else most
        self.patterns.append((pattern, least, most))
        query = pattern.endswith("?")
        words = _WORD.findall(pattern)
        short = {word.upper(): short_form(word) for word in words}
        expression = _WORD.sub(_both_forms, pattern.removesuffix("?"))
        expression = expression.replace("[", "(?:").replace("]", ")?").replace("#", r"(\d*)")
        compiled = re.compile(expression)
        self._entries.append((compiled, short, query, least, most, handler))

    def call(self, unit: Unit) -> str | Steps | None:
        """Do what a message's unit says.

        Raises:
            ScpiError: There is no such command, or it refuses.
        """
        handler, captured, least, most = self._find(unit)
        if len(unit.parameters) < least:
            raise ScpiError(-109)
        if len(unit.parameters) > most:
            raise ScpiError(-108)
        return handler(Call(captured, unit.parameters))

    def _find(self, unit: Unit) -> tuple[Handler, tuple[str, ...], int, int]:
        key = unit.header, unit.query
        if key in self._found:
            return self._found[key]
        for pattern, short, query, least, most, handler in self._entries:
            match = pattern.fullmatch(unit.header) if query == unit.query else None
            if match is not None:
                groups = tuple(short.get(group or "", group or "") for group in match.groups())
                self._found[key] = handler, groups, least, most
                return self._found[key]
        raise ScpiError(-113)


def _both_forms(match: re.Match[str]) -> str:
    long, short = names_of(match[0])
    return f"(?:{re.escape(long)}|{re.escape(short)})"


@dataclass(frozen=True)
class Event:
    """An entry of the log: kind 1 is an error, 2 a warning, 4 an information."""

    code: int
    text: str
    kind: int
    time_s: float


class EventLog:
    """First in, first out; when it is full its last entry says so.

    Args:
        capacity: How many entries it holds.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: list[Event] = []

    def add(self, event: Event) -> None:
        """Enter an event."""
        if len(self._entries) < self._capacity:
            self._entries.append(event)
        else:
            self._entries[-1] = Event(-350, TEXTS[-350], 1, event.time_s)

    def next(self, kinds: int = 7) -> Event | None:
        """Take the oldest event of some kinds, and forget what is older."""
        for index, event in enumerate(self._entries):
            if event.kind & kinds:
                del self._entries[: index + 1]
                return event
        return None

    def count(self, kinds: int = 7) -> int:
        """Return how many events of some kinds wait to be read."""
        return sum(1 for event in self._entries if event.kind & kinds)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
