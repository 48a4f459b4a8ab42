"""SCPI instruments: lines of ASCII, and a queue in which the instrument keeps its complaints.

A command has no reply, so that a refusal only shows in the error queue: after each set-up it is
read to its end. A query may be repeated, and is, after garbage or silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from typing import TypeVar

from cellbench.errors import InstrumentError, InstrumentTimeout
from cellbench.transport.stream import Stream
from cellbench_drivers.lines import Lines

T = TypeVar("T")

#: A query is asked so often in all before its failure is believed.
_ATTEMPTS = 3
#: More errors than this in a queue are not about our few commands.
_ERRORS_MAX = 50
#: Of a long answer that makes no sense so many characters are shown.
_SHOWN = 80


class Scpi(Lines):
    """The line to one SCPI instrument; callers hold its `lock`."""

    def __init__(
        self, name: str, stream: Stream, *, ends: str = "\n", replies_end: str, timeout_s: float
    ) -> None:
        super().__init__(name, stream, ends=ends, replies_end=replies_end, timeout_s=timeout_s)
        self._instrument = name

    async def numbers(self, query: str, count: int, attempts: int = _ATTEMPTS) -> list[float]:
        """Ask for so many comma-separated finite numbers; patient with garbage and late answers.

        Raises:
            InstrumentError: The answers are not that, in as many attempts.
        """

        def read(answer: str) -> list[float]:
            values = [float(text) for text in answer.split(",")]
            if len(values) != count or not all(map(math.isfinite, values)):
                raise ValueError(f"not {count} numbers")
            return values

        return await self._patiently(query, read, attempts)

    async def word(self, query: str, known: Container[str], attempts: int = _ATTEMPTS) -> str:
        """Ask for the first of the words that ``;`` separates, one that is known; as `numbers`."""

        def read(answer: str) -> str:
            first = answer.partition(";")[0].strip()
            if first not in known:
                raise ValueError(f"{first} is not known")
            return first

        return await self._patiently(query, read, attempts)

    async def number(self, query: str, attempts: int = _ATTEMPTS) -> float:
        """Ask for one number; as `numbers`."""
        return (await self.numbers(query, 1, attempts))[0]

    async def configure(self, commands: Iterable[str]) -> None:
        """Send commands, and see in the error queue that none was refused.

        Raises:
            InstrumentError: Some were; says which complaints there are.
        """
        for command in commands:
            await self.tell(command)
        if complaints := await self.complaints():
            raise InstrumentError(self._instrument, f"refuses its set-up: {'; '.join(complaints)}")

    async def complaints(self) -> list[str]:
        """Empty the error queue, and return what it held."""
        found: list[str] = []
        while len(found) < _ERRORS_MAX:
            answer = await self.ask(":SYST:ERR?")
            code, _, text = answer.partition(",")
            if not _is_integer(code):
                self.out_of_step()
                raise InstrumentError(self._instrument, f'answers "{answer}" to :SYST:ERR?')
            if int(code) == 0:
                break
            found.append(f"{int(code)} {text.strip().strip(chr(34)).split(';')[0]}")
        return found

    async def _patiently(self, query: str, read: Callable[[str], T], attempts: int) -> T:
        for _ in range(attempts - 1):
            try:
                return self._read(query, await self.ask(query), read)
            except InstrumentTimeout:
                continue
            except InstrumentError as error:
                if not isinstance(error.__cause__, ValueError):
                    raise
        return self._read(query, await self.ask(query), read)

    def _read(self, query: str, answer: str, read: Callable[[str], T]) -> T:
        try:
            return read(answer)
        except ValueError as error:
            self.out_of_step()
            shown = answer if len(answer) < _SHOWN else f"{answer[:_SHOWN]}..."
            raise InstrumentError(self._instrument, f'answers "{shown}" to {query}') from error


def _is_integer(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()
