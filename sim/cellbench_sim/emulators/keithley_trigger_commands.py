"""Commands of a Keithley 2450's trigger model: its blocks, timers and ready-made loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from cellbench_sim.emulators.keithley_trigger import BLOCKS_MAX, Block, Blocks, Timer
from cellbench_sim.emulators.scpi import Call, ScpiError
from cellbench_sim.emulators.scpi_device import Settings

if TYPE_CHECKING:
    from cellbench_sim.emulators.keithley_2450 import Dialect2450

_SHORTEST_DELAY_S, _LONGEST_DELAY_S, _LONGEST_DURATION_S = 167e-9, 10e3, 100e3
_COUNT_MAX = 1_000_000
_SEVERITIES = {"INFO": "INFOrmation", "WARN": "WARNing", "ERR": "ERRor"}
_EVENTS = ("COMMand", "DISPlay", "NONE", "SLIMit")
_NUMBERED_EVENTS = {"TIMer": 4, "NOTify": 8}


class TriggerCommands:
    """The commands that define the trigger model and run it.

    Args:
        dialect: The unit's other commands, its buffers and its trigger model.
    """

    def __init__(self, dialect: Dialect2450) -> None:
        self._dialect, self._trigger = dialect, dialect.trigger
        self._blocks = Blocks(dialect.trigger)

    def add(self, settings: Settings, *, digitizes: bool) -> None:
        """Enter them all.

        Args:
            settings: Those that are refused while the model runs.
            digitizes: Whether the unit has a fast digitizer.
        """
        self._add_model_commands(settings)
        self._add_block_commands(digitizes=digitizes)

    def _add_model_commands(self, settings: Settings) -> None:
        self._dialect.add("INITiate[:IMMediate]", lambda _: self._trigger.start())
        self._dialect.add("ABORt", lambda _: self._trigger.abort())
        self._dialect.add("*TRG", lambda _: self._trigger.post("COMM"))
        self._dialect.add("TRIGger:STATe?", lambda _: self._trigger.state())
        self._dialect.add_change("TRIGger:LOAD", self._load, 1, 4)
        timer = "TRIGger:TIMer#"
        settings.number(
            f"{timer}:DELay", self._timer, "delay_s", (8e-6, _LONGEST_DURATION_S, 10e-6)
        )
        settings.integer(f"{timer}:COUNt", self._timer, "count", (0, 1_048_575, 1))
        settings.flag(f"{timer}:STARt:GENerate", self._timer, "at_once")
        self._dialect.add(f"{timer}:STARt:STIMulus", self._set_stimulus, 1)
        self._dialect.add(f"{timer}:STARt:STIMulus?", lambda call: self._timer(call).stimulus)
        self._dialect.add(f"{timer}:STATe", self._switch_timer, 1)
        self._dialect.add(f"{timer}:STATe?", lambda call: str(int(self._timer(call).on)))
        self._dialect.add(f"{timer}:CLEar", self._clear_timer)

    def _timer_name(self, call: Call) -> str:
        return f"TIM{call.captured[0] or 1}"

    def _timer(self, call: Call) -> Timer:
        name = self._timer_name(call)
        if name not in self._trigger.events.timers:
            raise ScpiError(-113)
        return self._trigger.events.timers[name]

    def _clear_timer(self, call: Call) -> None:
        self._timer(call)
        self._trigger.events.forget(self._timer_name(call))

    def _set_stimulus(self, call: Call) -> None:
        self._timer(call).stimulus = self._event(call, 0)

    def _switch_timer(self, call: Call) -> None:
        timer = self._timer(call)
        timer.on = call.boolean(0)
        timer.started_s = math.inf
        if timer.on and timer.stimulus == "NONE":
            self._trigger.events.start(self._timer_name(call))
            self._trigger.look()

    def _event(self, call: Call, index: int) -> str:
        text = call.raw(index).upper()
        word = text.rstrip("0123456789")
        for name, largest in _NUMBERED_EVENTS.items():
            if text != word and word in {name.upper(), name[:3].upper()}:
                number = int(text[len(word) :])
                if not 1 <= number <= largest:
                    raise ScpiError(-222)
                return f"{name[:3].upper()}{number}"
        return call.choice(index, *_EVENTS)

    def _load(self, call: Call) -> None:
        kind = call.text(0).replace(" ", "").upper()
        if kind == "EMPTY":
            self._trigger.clear()
        elif kind == "SIMPLELOOP":
            count = call.integer(1, 1, _COUNT_MAX)
            self._load_loop(call, lambda: self._blocks.counter(count, 3))
        elif kind == "DURATIONLOOP":
            duration_s = call.number(1, _SHORTEST_DELAY_S, _LONGEST_DURATION_S)
            self._load_loop(call, lambda: self._blocks.for_duration(duration_s, 3))
        else:
            raise ScpiError(-224)

    def _load_loop(self, call: Call, end: Callable[[], Block]) -> None:
        delay_s = call.number(2, 0.0, _LONGEST_DELAY_S) if len(call) > 2 else 0.0
        buffer = self._dialect.kept_name(call, 3)
        make = self._blocks
        self._trigger.clear()
        blocks = (
            make.clear_buffer(buffer), make.switch_output(True), make.delay(delay_s),
            make.measure(buffer, 1), end(), make.switch_output(False),
        )  # fmt: skip
        for number, block in enumerate(blocks, 1):
            self._trigger.define(number, block)

    # ------------------------------------------------------------------ blocks

    def _add_block_commands(self, *, digitizes: bool) -> None:
        make = self._blocks
        self._dialect.add("TRIGger:BLOCk:LIST?", lambda _: self._trigger.listing())
        self._block("BUFFer:CLEar", self._clear_block, 0, 1)
        self._block("SOURce:STATe", lambda call: make.switch_output(call.boolean(1)), 1)
        self._block("MEASure", lambda call: self._measure_block(call, "MEASURE"), 0, 2)
        self._block("MDIGitize", lambda call: self._measure_block(call, "MEASURE_DIGITIZE"), 0, 2)
        if digitizes:
            self._block("DIGitize", lambda call: self._measure_block(call, "DIGITIZE"), 0, 2)
        self._block(
            "DELay:CONStant", lambda call: make.delay(call.number(1, 0.0, _LONGEST_DELAY_S)), 1
        )
        self._block("WAIT", self._wait_block, 1, 2)
        self._block("NOTify", lambda call: make.notify(call.integer(1, 1, 8)), 1)
        self._block("NOP", lambda _: make.nothing())
        self._block("LOG:EVENt", self._log_block, 2)
        self._block("CONFig:RECall", self._recall_block, 1, 2)
        self._block("CONFig:NEXT", self._next_block, 1)
        self._block("BRANch:ALWays", lambda call: make.always(_target(call, 1)), 1)
        self._block(
            "BRANch:COUNter",
            lambda call: make.counter(call.integer(1, 1, 2**32), _target(call, 2)),
            2,
        )
        self._block("BRANch:COUNter:RESet", lambda call: make.reset_counter(_target(call, 1)), 1)
        self._dialect.add("TRIGger:BLOCk:BRANch:COUNter:COUNt?", self._passes, 1)
        self._block(
            "BRANch:EVENt", lambda call: make.on_event(self._event(call, 1), _target(call, 2)), 2
        )
        self._block("BRANch:ONCE", lambda call: make.once(_target(call, 1), excluded=False), 1)
        self._block(
            "BRANch:ONCE:EXCLuded", lambda call: make.once(_target(call, 1), excluded=True), 1
        )
        self._block("BRANch:LIMit:CONStant", self._limit_block, 4, 5)
        self._block("BRANch:DELTa", self._delta_block, 2, 3)

    def _block(
        self, pattern: str, make: Callable[[Call], Block], least: int = 0, most: int | None = None
    ) -> None:
        """Add a command that defines a block; the counts leave out the block's number."""

        def define(call: Call) -> None:
            number = call.integer(0, 1, BLOCKS_MAX)
            self._trigger.define(number, make(call))

        self._dialect.add_change(
            f"TRIGger:BLOCk:{pattern}", define, least + 1, (least if most is None else most) + 1
        )

    def _clear_block(self, call: Call) -> Block:
        return self._blocks.clear_buffer(self._dialect.kept_name(call, 1))

    def _measure_block(self, call: Call, kind: str) -> Block:
        count = call.integer(2, 1, _COUNT_MAX) if len(call) > 2 else 1
        return self._blocks.measure(self._dialect.kept_name(call, 1), count, kind)

    def _wait_block(self, call: Call) -> Block:
        clear = call.choice(2, "ENTer", "NEVer") == "ENT" if len(call) > 2 else False
        return self._blocks.wait(self._event(call, 1), clear)

    def _log_block(self, call: Call) -> Block:
        text = call.raw(1).upper()
        if text in {"ABOR", "ABORT"}:
            return self._blocks.log("ABOR", 1, call.text(2))
        word = text.rstrip("1234")
        for short, long in _SEVERITIES.items():
            if word in {short, long.upper()} and len(text) == len(word) + 1:
                return self._blocks.log(short, int(text[-1]), call.text(2))
        raise ScpiError(-224)

    def _recall_block(self, call: Call) -> Block:
        name = call.text(1)
        index = call.integer(2, 1, _COUNT_MAX) if len(call) > 2 else 1
        return self._blocks.recall(self._dialect.list_side(name), name, index)

    def _next_block(self, call: Call) -> Block:
        return self._blocks.recall(self._dialect.list_side(call.text(1)), call.text(1), None)

    def _passes(self, call: Call) -> str:
        block = self._trigger.blocks.get(call.integer(0, 1, BLOCKS_MAX))
        if block is None:
            raise ScpiError(-222)
        return str(block.passes)

    def _limit_block(self, call: Call) -> Block:
        kind = call.choice(1, "ABOVe", "BELow", "INside", "OUTside")
        low, high = (call.number(index, -1e12, 1e12) for index in (2, 3))
        return self._blocks.limit(
            call.integer(0, 1, BLOCKS_MAX), kind, low, high, _target(call, 4), _measured(call, 5)
        )

    def _delta_block(self, call: Call) -> Block:
        difference = call.number(1, -1e12, 1e12)
        number = call.integer(0, 1, BLOCKS_MAX)
        return self._blocks.delta(number, difference, _target(call, 2), _measured(call, 3))


def _target(call: Call, index: int) -> int:
    return call.integer(index, 1, BLOCKS_MAX)


def _measured(call: Call, index: int) -> int:
    return call.integer(index, 0, BLOCKS_MAX) if len(call) > index else 0
