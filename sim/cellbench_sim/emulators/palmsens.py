"""A PalmSens potentiostat on the wire: the communication protocol around MethodSCRIPT.

Lines end in a line feed both ways. A reply is the echo of the command and its data; an error is the
command's letter, ``!`` and four hexadecimal digits. A script follows ``e`` or ``l`` line by line up
to an empty line; while it runs, only a handful of commands are taken.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator, Mapping
from typing import Any, Self

from cellbench_sim.emulators.analog import FrontEnd
from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.mscript import Program, ScriptError, compile_script
from cellbench_sim.emulators.profiles import COMMUNICATION_COMMANDS, PROFILES, Profile
from cellbench_sim.leads import Cell
from cellbench_sim.randomness import normals, random_stream

#: After an error the instrument ignores what it is sent for this long.
_DEAF_S = 0.08
_SCRIPT_BYTES_MAX, _LINE_BYTES_MAX = 64_000, 255
#: Above the rounding of any clock: what is due was done late, by the computer that plays this.
_LATE_S = 1e-6
#: Registers that answer ``G``: unique id, advanced options.
_REGISTERS = {"06": "0123456789ABCDEF", "09": "00"}
_READ_ONLY = frozenset({"06"})


def _replies(profile: Profile) -> dict[str, str]:
    """Return what the instrument answers to questions about itself."""
    return {
        "t": f"t{profile.device_id:<6}{profile.firmware}\nR*\n",
        "i": f"i{profile.serial}\n",
        "m": f"m{profile.serial}\n",
        "v": f"v{profile.script_version}\n",
        "CC": f"CC{COMMUNICATION_COMMANDS:032X}\n",
        "CM": f"CM{profile.commands:036X}\n",
    }


class PalmSensEmulator(Emulator):
    """One instrument of the family, its leads on a cell.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        cell: What the leads are clipped to.
        seed: Seed of the instrument's noise.
        profile: A key of `PROFILES`.
        clock_drift: How much faster the instrument's clock runs, as a fraction (1e-6 is 1 ppm).
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        cell: Cell,
        *,
        seed: int,
        profile: str = "nexus",
        clock_drift: float = 0.0,
    ) -> None:
        super().__init__(name, timebase)
        self.profile: Profile = PROFILES[profile]
        self.front = FrontEnd(cell, self.profile, normals(random_stream(seed, name)))
        self._cell = cell
        self._rate = 1.0 + clock_drift
        self._replies = _replies(self.profile)
        self._registers = dict(_REGISTERS)
        self._received = bytearray()
        self._script_lines: list[str] | None = None
        self._script_command = ""
        self._deaf_until_s = -1.0
        self._loaded: Program | None = None
        self._program: Program | None = None
        self._steps: Generator[float] | None = None
        self._timer: asyncio.Handle | None = None
        self._due_s = 0.0
        self._halted_at_s: float | None = None
        self._halted_s = 0.0

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: Cell, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build what a bench file describes: ``model`` (nexus, emstat4 hr, emstat4 lr, ...)."""
        model = BenchOptions(options).text("model", "nexus")
        profile = model.removeprefix("emstat ").replace(" ", "_")
        return cls(name, timebase, world, seed=seed, profile=profile)

    @property
    def running(self) -> bool:
        """Whether a script runs (or is halted)."""
        return self._steps is not None

    def _receive(self, data: bytes) -> None:
        if self._timebase.now() < self._deaf_until_s:
            return
        self._received += data
        while (end := self._received.find(b"\n")) >= 0:
            line = self._received[:end].decode("latin-1")
            del self._received[: end + 1]
            self._take_line(line)
            if self._timebase.now() < self._deaf_until_s:
                self._received.clear()
        if len(self._received) > _LINE_BYTES_MAX:
            self._received.clear()
            self._refuse("", 0x0008)

    def _take_line(self, line: str) -> None:
        if self._script_lines is None:
            if line:
                self._command(line)
        elif line:
            self._script_lines.append(line)
        else:
            self._take_script()

    # ------------------------------------------------------------------ commands

    def _command(self, line: str) -> None:
        if self.running:
            self._command_while_running(line)
        elif line in ("e", "l"):
            self._script_command, self._script_lines = line, []
        elif line in self._replies:
            self._send(self._replies[line].encode("ascii"))
        elif line == "r":
            self._run_loaded()
        elif line[0] in "GS" and len(line) > 1:
            self._register(line)
        elif line in ("Z", "Y", "h", "H"):
            self._refuse(line, 0x0006)
        else:
            self._refuse(line[0], 0x0003)

    def _command_while_running(self, line: str) -> None:
        machine = self._program.machine if self._program else None
        if machine is None or line not in ("Z", "Y", "h", "H"):
            self._refuse(line if line in self._replies else line[0], 0x0006)
            return
        self._send(f"{line}\n".encode("ascii"))
        if line == "h":
            self._halt()
        elif line == "H":
            self._resume()
        elif line == "Y":
            machine.skip_requested = True
        else:
            machine.abort_requested = True
            self._resume()

    def _register(self, line: str) -> None:
        command, register, data = line[0], line[1:3], line[3:]
        if register not in self._registers:
            self._refuse(command, 0x0004)
        elif command == "G":
            self._send(f"G{self._registers[register]}\n".encode("ascii"))
        elif register in _READ_ONLY:
            self._refuse(command, 0x0005)
        elif not data.isalnum() or not data.isascii():
            self._refuse(command, 0x0007)
        else:
            self._registers[register] = data
            self._send(b"S\n")

    def _refuse(self, command: str, code: int) -> None:
        self._send(f"{command}!{code:04X}\n".encode("latin-1"))
        self._go_deaf()

    def _go_deaf(self) -> None:
        self._deaf_until_s = self._timebase.now() + _DEAF_S

    # ------------------------------------------------------------------ scripts

    def _take_script(self) -> None:
        lines, self._script_lines = self._script_lines or [], None
        if sum(map(len, lines)) > _SCRIPT_BYTES_MAX:
            self._refuse(self._script_command, 0x4005)
            return
        try:
            program = compile_script(lines, self.front)
        except ScriptError as error:
            self._send(f"{self._script_command}{error}\n".encode("ascii"))
            self._go_deaf()
            return
        self._loaded = program
        self._send(f"{self._script_command}\n".encode("ascii"))
        if self._script_command == "e":
            self._start(program)

    def _run_loaded(self) -> None:
        if self._loaded is None:
            self._refuse("r", 0x000C)
            return
        self._send(b"r\n")
        self._start(self._loaded)

    def _start(self, program: Program) -> None:
        self._program = program
        self._halted_s, self._halted_at_s = 0.0, None
        self._due_s = math.inf
        program.machine.time_s = self._device_time()
        program.machine.reset()
        self._steps = program.run()
        self._step()

    def _step(self) -> None:
        """Let the script do what is due, and set the timer for what comes next."""
        if self._halted_at_s is not None or self._steps is None or self._program is None:
            return
        machine = self._program.machine
        # An instrument samples by its own clock, whatever keeps the computer that plays it.
        now_s = self._device_time()
        machine.time_s = self._due_s if now_s - self._due_s > _LATE_S else now_s
        self._cell.advance_to(self._timebase.now())
        try:
            self._due_s = next(self._steps)
        except StopIteration:
            self._finish("\n")
        except ScriptError as fault:
            self._finish(f"{fault}\n")
            self._go_deaf()
        if machine.output:
            self._send(machine.take_output())
        if self._steps is not None:
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer = self._call_at((self._due_s + self._halted_s) / self._rate, self._step)

    def _finish(self, last_words: str) -> None:
        if self._program is not None:
            self._program.machine.output.append(last_words)
        self._steps = None

    def _device_time(self) -> float:
        """Seconds by the instrument's clock, without the time that its script was halted."""
        return self._timebase.now() * self._rate - self._halted_s

    def _halt(self) -> None:
        if self._halted_at_s is None:
            self._halted_at_s = self._timebase.now() * self._rate

    def _resume(self) -> None:
        if self._halted_at_s is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._halted_s += self._timebase.now() * self._rate - self._halted_at_s
        self._halted_at_s = None
        self._set_timer()
