"""The trigger model of the 2450, 2460 and 2461: blocks that run by themselves, without a host.

Sources: reference manuals of the 2450 and 2461, ``:TRIGger`` subsystem and appendix of event
numbers. `Blocks` defines blocks from commands; `TriggerModel` runs them. Not emulated: readings in
the background (a count of INF), digital lines, LAN and TSP-Link events, and the predefined model
``LoopUntilEvent``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol

from cellbench_sim.emulators.keithley_buffers import Reading
from cellbench_sim.emulators.scpi import ScpiError

#: Waits until the time that is yielded; returns the next block's number, or None for the one after.
Course = Generator[float, None, int | None]
#: The state that a host is shown is brought up to date this often.
_STATE_EVERY_S = 0.1
#: So many blocks in a row without any waiting take a moment nevertheless.
_BURST, _BURST_S = 100, 1e-3
BLOCKS_MAX = 63
_ABORTED, _FAILED, _RUNNING, _COMPLETED = 2728, 2730, 2731, 2732
_FIRST_MESSAGE = {"INFO": (2734, 4), "WARN": (2738, 2), "ERR": (2742, 1)}


class Host(Protocol):
    """What blocks act on."""

    def now(self) -> float:
        """Return the bench's time."""

    def call_at(self, time_s: float, action: Callable[[], None]) -> asyncio.Handle:
        """Call ``action`` at a time of the bench."""

    def measure(self, buffer: str, count: int) -> Generator[float, None, Reading]:
        """Make readings into a buffer; return the last."""

    def clear_buffer(self, buffer: str) -> None:
        """Forget a buffer's readings."""

    def switch_output(self, on: bool) -> None:
        """Switch the output."""

    def recall(self, side: str, name: str, index: int) -> None:
        """Recall settings from a configuration list (SOUR or SENS), at an index from 1."""

    def list_length(self, side: str, name: str) -> int:
        """Return how many entries a configuration list has."""

    def log(self, code: int, text: str, kind: int = 1) -> None:
        """Enter an event into the log."""

    def wake(self) -> None:
        """Learn that the model has ended."""


@dataclass
class Timer:
    """One of the four timers.

    Attributes:
        count: How many events it makes; 0 for without end.
        stimulus: The event that starts it; NONE for as soon as it is switched on.
        at_once: Whether it makes an event when it starts.
        started_s: When it started last.
    """

    delay_s: float = 10e-6
    count: int = 1
    stimulus: str = "NONE"
    at_once: bool = False
    on: bool = False
    started_s: float = math.inf

    def next_event_s(self, after_s: float) -> float:
        """Return when its first event after a time is due."""
        if not self.on or math.isinf(self.started_s):
            return math.inf
        first = 0 if self.at_once else 1
        elapsed_s = max(after_s - self.started_s, -self.delay_s)
        number = max(first, math.floor(elapsed_s / self.delay_s + 1e-9) + 1)
        last = self.count - (1 if self.at_once else 0)
        if self.count and number > last:
            return math.inf
        return self.started_s + number * self.delay_s


class Events:
    """Events that blocks wait for or branch on; each is remembered until it is taken."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.timers = {f"TIM{number}": Timer() for number in range(1, 5)}
        self._now = now
        self._posted: set[str] = set()
        self._taken_s: dict[str, float] = {}

    def post(self, name: str) -> None:
        """Let an event happen; timers that it stimulates start."""
        self._posted.add(name)
        for timer_name, timer in self.timers.items():
            if timer.on and timer.stimulus == name:
                self.start(timer_name)

    def start(self, name: str) -> None:
        """Start a timer."""
        self.timers[name].started_s = self._now()
        self._taken_s[name] = -math.inf

    def take(self, name: str) -> bool:
        """Return whether an event has happened since it was last taken."""
        if name in self.timers:
            due_s = self.due_s(name)
            happened = due_s <= self._now() + 1e-9
            if happened:
                self._taken_s[name] = due_s
            return happened
        happened = name in self._posted
        self._posted.discard(name)
        return happened

    def due_s(self, name: str) -> float:
        """Return when an event can be taken next; infinity for who knows."""
        if name not in self.timers:
            return math.inf
        return self.timers[name].next_event_s(self._taken_s.get(name, -math.inf))

    def forget(self, name: str) -> None:
        """Forget what has happened of one event until now."""
        self._posted.discard(name)
        self._taken_s[name] = self._now()

    def forget_all(self) -> None:
        """Forget what has happened until now."""
        for name in (*self._posted, *self.timers):
            self.forget(name)


@dataclass
class Block:
    """One block.

    Attributes:
        listing: How ``:TRIGger:BLOCk:LIST?`` shows it.
        run: What it does.
        targets: The blocks that it may go to.
        last: Its last reading, of a measure block.
        passes: How often it has been passed, of a counter.
    """

    listing: str
    run: Callable[[Block], Course]
    targets: tuple[int, ...] = ()
    measures: bool = False
    last: list[Reading] = field(default_factory=list)
    passes: int = 0


class TriggerModel:
    """Holds the blocks and runs them, block after block, from timer to timer.

    Args:
        host: What blocks act on.

    Attributes:
        blocks: By number, from 1.
        events: What blocks wait for.
        running: Whether it runs.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = Events(host.now)
        self.running = False
        self.blocks: dict[int, Block] = {}
        self._number = 0
        self._states: list[tuple[float, str]] = [(-math.inf, "EMPTY")]
        self._course: Generator[float, None, None] | None = None
        self._timer: asyncio.Handle | None = None
        self._idle_until_event = False

    # ------------------------------------------------------------------ blocks

    def clear(self) -> None:
        """Remove all blocks and stop the timers."""
        self.blocks.clear()
        self.events = Events(self.host.now)
        self._number = 0
        self._enter("EMPTY")

    def define(self, number: int, block: Block) -> None:
        """Put a block at a number."""
        self.blocks[number] = block
        self._number = number
        self._enter("BUILDING")

    def listing(self) -> str:
        """Return all blocks as a host is shown them."""
        return "; ".join(
            f"{number}) {block.listing}" for number, block in sorted(self.blocks.items())
        )

    def reading(self, measure_block: int, before: int) -> Reading:
        """Return the last reading of a measure block; 0 for the one before block ``before``."""
        numbers = [measure_block] if measure_block else range(before - 1, 0, -1)
        for number in numbers:
            block = self.blocks.get(number)
            if block is not None and block.last:
                return block.last[-1]
        raise ScpiError(_FAILED, f"Trigger model block {before} has no reading to compare")

    # ------------------------------------------------------------------ running

    def start(self) -> None:
        """Start at the first block.

        Raises:
            ScpiError: It runs already, or its blocks make no model.
        """
        if self.running:
            raise ScpiError(-213)
        if not self.blocks:
            raise ScpiError(-221)
        missing = set(range(1, max(self.blocks) + 1)) - set(self.blocks)
        targets = {target for block in self.blocks.values() for target in block.targets}
        if missing or not targets <= {*self.blocks, max(self.blocks) + 1}:
            self._enter("FAILED")
            raise ScpiError(_FAILED, "Trigger model failed: a block is not defined")
        for block in self.blocks.values():
            block.passes = 0
            block.last.clear()
        self.events.forget_all()
        self.running = True
        self._enter("RUNNING")
        self.host.log(_RUNNING, "Trigger model running", 4)
        self._course = self._run()
        self._step()

    def abort(self) -> None:
        """Stop where it is; the output stays as it is."""
        if self.running:
            self._end("ABORTED")
            self.host.log(_ABORTED, "Trigger model aborted", 4)
            self.host.wake()

    def post(self, event: str) -> None:
        """Let an event happen that blocks may wait for."""
        self.events.post(event)
        self.look()

    def look(self) -> None:
        """Go on with a block that waits for an event, if it has happened."""
        if self._idle_until_event:
            self._idle_until_event = False
            self._step()

    def state(self) -> str:
        """Return what a host is shown: brought up to date every 100 ms."""
        shown_s = math.floor(self.host.now() / _STATE_EVERY_S + 1e-9) * _STATE_EVERY_S
        state = self._states[0][1]
        for entered_s, name in self._states:
            if entered_s <= shown_s:
                state = name
        return f"{state};{state};{self._number}"

    def _enter(self, state: str) -> None:
        now_s = self.host.now()
        recent = [entry for entry in self._states if entry[0] > now_s - 2 * _STATE_EVERY_S]
        older = self._states[: len(self._states) - len(recent)]
        self._states = [*older[-1:], *recent, (now_s, state)]

    def _step(self) -> None:
        """Do what is due, and set the timer for what comes next."""
        self._timer = None
        if self._course is None:
            return
        try:
            due_s = next(self._course)
        except StopIteration:
            self._end("IDLE")
            self.host.log(_COMPLETED, "Trigger model completed", 4)
            self.host.wake()
        except ScpiError as fault:
            self._end("ABORTED" if fault.code == _ABORTED else "FAILED")
            self.host.log(fault.code, fault.text)
            self.host.wake()
        else:
            if math.isinf(due_s):
                self._idle_until_event = True
            else:
                self._timer = self.host.call_at(due_s, self._step)

    def _end(self, state: str) -> None:
        self.running, self._course, self._idle_until_event = False, None, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._enter(state)

    def _run(self) -> Generator[float, None, None]:
        number, in_a_row, last_s = 1, 0, self.host.now()
        while number in self.blocks:
            self._number = number
            block = self.blocks[number]
            target = yield from block.run(block)
            number = number + 1 if target is None else target
            in_a_row = in_a_row + 1 if self.host.now() == last_s else 0
            last_s = self.host.now()
            if in_a_row >= _BURST:
                yield last_s + _BURST_S


class Blocks:
    """Makes blocks.

    Args:
        model: Where they run.
    """

    def __init__(self, model: TriggerModel) -> None:
        self._model = model
        self._host = model.host

    def clear_buffer(self, buffer: str) -> Block:
        """Forget a buffer's readings."""
        return _at_once(f"BUFFER_CLEAR BUFFER: {buffer}", lambda: self._host.clear_buffer(buffer))

    def switch_output(self, on: bool) -> Block:
        """Switch the output."""
        return _at_once(
            f"SOURCE_OUTPUT OUTPUT: {'ON' if on else 'OFF'}", lambda: self._host.switch_output(on)
        )

    def measure(self, buffer: str, count: int, kind: str = "MEASURE") -> Block:
        """Make readings into a buffer."""

        def run(block: Block) -> Course:
            block.last[:] = [(yield from self._host.measure(buffer, count))]
            return None

        return Block(f"{kind} BUFFER: {buffer} COUNT: {count}", run, measures=True)

    def delay(self, delay_s: float) -> Block:
        """Wait for a time."""

        def run(_: Block) -> Course:
            yield self._host.now() + delay_s
            return None

        return Block(f"DELAY_CONSTANT DELAY: {delay_s:.9f}", run)

    def wait(self, event: str, clear: bool) -> Block:
        """Wait for an event."""

        def run(_: Block) -> Course:
            if clear:
                self._model.events.forget(event)
            while not self._model.events.take(event):
                yield self._model.events.due_s(event)
            return None

        return Block(f"WAIT EVENT: {event}", run)

    def notify(self, number: int) -> Block:
        """Let an event happen."""
        return _at_once(f"NOTIFY NOTIFY: {number}", lambda: self._model.events.post(f"NOT{number}"))

    def nothing(self) -> Block:
        """Hold a place."""
        return _at_once("NOP", lambda: None)

    def log(self, severity: str, number: int, text: str) -> Block:
        """Enter a message into the log; ABOR ends the model too."""
        if severity == "ABOR":
            return self._branch("LOG_EVENT ABORT", lambda _: True, 0, text)
        code, kind = _FIRST_MESSAGE[severity]
        return _at_once(
            f"LOG_EVENT {severity}{number} MESSAGE: {text}",
            lambda: self._host.log(code + number - 1, text, kind),
        )

    def recall(self, side: str, name: str, index: int | None) -> Block:
        """Recall an index of a configuration list, or for None the next one each time."""

        def run(block: Block) -> Course:
            block.passes += 1
            length = self._host.list_length(side, name)
            turn = (block.passes - 1) % max(length, 1) + 1
            self._host.recall(side, name, turn if index is None else index)
            yield from ()
            return None

        what = "NEXT" if index is None else f"RECALL INDEX: {index}"
        return Block(f"CONFIG_{what} CONFIG_LIST: {name}", run)

    def always(self, target: int) -> Block:
        """Go to a block."""
        return self._branch("BRANCH_ALWAYS", lambda _: True, target)

    def once(self, target: int, *, excluded: bool) -> Block:
        """Go to a block the first time only, or every time but the first."""

        def first(block: Block) -> bool:
            block.passes += 1
            return (block.passes == 1) != excluded

        name = "BRANCH_ONCE_EXCLUDED" if excluded else "BRANCH_ONCE"
        return self._branch(name, first, target)

    def counter(self, count: int, target: int) -> Block:
        """Go to a block until it has been passed so often; then count from the start."""

        def unfinished(block: Block) -> bool:
            block.passes = block.passes + 1 if block.passes < count else 1
            return block.passes < count

        return self._branch(f"BRANCH_COUNTER VALUE: {count}", unfinished, target)

    def reset_counter(self, number: int) -> Block:
        """Let a counter start again."""

        def reset() -> None:
            if number not in self._model.blocks:
                raise ScpiError(_FAILED, f"Trigger model block {number} is not defined")
            self._model.blocks[number].passes = 0

        block = _at_once(f"RESET_BRANCH_COUNT BRANCH_COUNT_BLOCK: {number}", reset)
        block.targets = (number,)
        return block

    def on_event(self, event: str, target: int) -> Block:
        """Go to a block if an event has happened."""
        return self._branch(
            f"BRANCH_ON_EVENT EVENT: {event}", lambda _: self._model.events.take(event), target
        )

    def for_duration(self, duration_s: float, target: int) -> Block:
        """Go to a block until a time since the start has passed."""
        started_s: list[float] = []

        def lasts(block: Block) -> bool:
            if block.passes == 0:
                started_s[:] = [self._host.now()]
            block.passes += 1
            return self._host.now() - started_s[0] < duration_s

        return self._branch(f"BRANCH_ON_DURATION DURATION: {duration_s:g}", lasts, target)

    def limit(
        self, number: int, kind: str, low: float, high: float, target: int, measure_block: int
    ) -> Block:
        """Go to a block if a reading is ABOV, BEL, IN or OUT."""
        if kind in {"IN", "OUT"} and low > high:
            low, high = high, low
        tests: dict[str, Callable[[float], bool]] = {
            "ABOV": lambda value: value > high,
            "BEL": lambda value: value < low,
            "IN": lambda value: low <= value <= high,
            "OUT": lambda value: not low <= value <= high,
        }
        return self._branch(
            f"BRANCH_LIMIT_CONSTANT {kind} LIMIT_A: {low:g} LIMIT_B: {high:g}",
            lambda _: tests[kind](self._model.reading(measure_block, number).value),
            target,
        )

    def delta(self, number: int, difference: float, target: int, measure_block: int) -> Block:
        """Go to a block if the last reading is by less than this below the one before."""
        earlier: list[float] = []

        def settled(block: Block) -> bool:
            value = self._model.reading(measure_block, number).value
            if block.passes == 0:
                earlier.clear()
            block.passes += 1
            met = bool(earlier) and earlier[0] - value < difference
            earlier[:] = [value]
            return met

        return self._branch(f"BRANCH_DELTA DELTA: {difference:g}", settled, target)

    def _branch(
        self, name: str, decide: Callable[[Block], bool], target: int, last_words: str = ""
    ) -> Block:
        """Make a block that goes elsewhere, or ends the model with ``last_words``."""

        def run(block: Block) -> Course:
            if not decide(block):
                return None
            if last_words:
                raise ScpiError(_ABORTED, last_words)
            yield from ()
            return target

        listing = name if last_words else f"{name} BRANCH_BLOCK: {target}"
        return Block(listing, run, () if last_words else (target,))


def _at_once(listing: str, action: Callable[[], None]) -> Block:
    def run(_: Block) -> Course:
        action()
        yield from ()
        return None

    return Block(listing, run)
