"""The state of a running script, and the program that a script compiles to.

A program is a generator: it yields the device time at which it wants to go on, and does everything
between two such instants at once. What it prints collects in `Machine.output`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import IntEnum

from cellbench_sim.emulators.analog import FrontEnd
from cellbench_sim.emulators.mscript.values import Number

Timed = Generator[float, None, int]
#: A statement that takes no time, and one that does; both return a `Signal`.
SyncCode = Callable[[], int]
TimedCode = Callable[[], Timed]


class Signal(IntEnum):
    """What becomes of the statements that follow."""

    GO_ON = 0
    BREAK = 1
    ABORT = 2


class Machine:
    """Variables, package, timers and pending requests of one script.

    Attributes:
        time_s: The device's time, set before each step of the program.
        values, types, metadata: One entry per slot (a variable or a literal).
        package: The values of the package being built, or None outside one.
        abort_requested, skip_requested: What the host asked for while the script runs.
    """

    def __init__(self, front: FrontEnd) -> None:
        self.front = front
        self.values: list[Number] = []
        self.types: list[str] = []
        self.metadata: list[str] = []
        self._initial: list[Number] = []
        self.output: list[str] = []
        self.time_s = 0.0
        self.reset()

    def new_slot(self, value: Number, var_type: str = "aa") -> int:
        """Reserve a slot that holds ``value`` when a run starts."""
        self._initial.append(value)
        self.values.append(value)
        self.types.append(var_type)
        self.metadata.append("")
        return len(self.values) - 1

    def reset(self) -> None:
        """Prepare for a run."""
        self.values[:] = self._initial
        self.metadata[:] = [""] * len(self.metadata)
        self.package: list[str] | None = None
        self.muted = self.abort_requested = self.skip_requested = False
        self.timer_started_s = self.interval_started_s = self.time_s
        self.interval_s = 0.0
        self.output.clear()

    def emit(self, text: str) -> None:
        """Print a line, unless the script has switched its output off."""
        if not self.muted:
            self.output.append(text)

    def take_output(self) -> bytes:
        """Return, and forget, what was printed."""
        text = "".join(self.output)
        self.output.clear()
        return text.encode("ascii")


class Program:
    """A script that was accepted."""

    def __init__(self, machine: Machine, main: TimedCode, on_finished: TimedCode) -> None:
        self.machine = machine
        self._main = main
        self._on_finished = on_finished

    def run(self) -> Generator[float]:
        """Run from the start; yield the device times at which to go on.

        Raises:
            ScriptError: The script faulted; its ``on_finished`` part was not run.
        """
        machine = self.machine
        machine.front.reset()
        yield from self._main()
        machine.abort_requested = machine.skip_requested = False
        yield from self._on_finished()
