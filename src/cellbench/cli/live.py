"""How a run looks while it runs: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cellbench.engine.run import Conducting
from cellbench.engine.status import Status
from cellbench.store import JournalEntry

_BARS = "▁▂▃▄▅▆▇█"
_MESSAGES_SHOWN = 6
_SPARKLINE_WIDTH = 24


@dataclass(frozen=True)
class Row:
    """A line of the live view: what it is called, and how its SI value is shown."""

    name: str
    label: str
    unit: str
    scale: float
    offset: float = 0.0


ROWS = (
    Row("voltage_V", "voltage", "V", 1.0),
    Row("current_A", "current", "mA", 1e3),
    Row("stack_pressure_Pa", "stack pressure", "MPa", 1e-6),
    Row("temperature_K", "temperature", "°C", 1.0, -273.15),
)


def sparkline(values: list[float]) -> str:
    """Draw values as a line of bars; a flat signal is a flat line."""
    shown = [value for value in values if value == value][-_SPARKLINE_WIDTH:]  # noqa: PLR0124
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    # Noise is not news: a bar's full height is a fiftieth of the value at least.
    span = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-12)
    low = min(low, (low + high - span) / 2)
    return "".join(_BARS[min(7, int(8 * (value - low) / span))] for value in shown)


def clock_text(seconds: float) -> str:
    """Write a time as 1 d 02:03:04, leaving out days that are not there."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    text = f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{whole.days} d {text}" if whole.days else text


def printable(text: str) -> str:
    """Text as it may go to a terminal: what a protocol says cannot move its cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def held(why: str) -> str:
    """What holds a run, as it stands out: "PAUSED by jk at glovebox-pc since Sat 03:12"."""
    first, _, rest = printable(why).partition(" ")
    return f"{first.upper()} {rest}"


class LiveView:
    """The view of one run, redrawn by rich as often as it likes.

    Args:
        conductor: Whose status to show.
        banner: First line: simulated or not, cell, run.
    """

    def __init__(self, conductor: Conducting, banner: Text) -> None:
        self._conductor = conductor
        self._banner = banner

    def __rich__(self) -> RenderableType:
        status = self._conductor.status
        return Group(
            self._banner,
            self._progress(status),
            self._step(status),
            *self._holds(status),
            Text(),
            self._readings(status),
            *self._messages(status),
        )

    def _progress(self, status: Status) -> RenderableType:
        line = Table.grid(padding=(0, 3))
        bar: RenderableType = Text()
        ends = "end unknown"
        if status.planned_end_s:
            done = min(1.0, status.time_s / status.planned_end_s)
            bar = ProgressBar(total=1.0, completed=done, width=30)
            end = self._conductor.run.started + timedelta(seconds=status.planned_end_s)
            ends = f"ends by {end.astimezone():%a %H:%M}"
        name = Text(self._conductor.program.name, style="bold")
        line.add_row(name, clock_text(status.time_s), ends, bar)
        return line

    def _step(self, status: Status) -> Text:
        elapsed = max(0.0, status.time_s - status.step_started_s)
        text = f"{status.step_what}, {clock_text(elapsed)}"
        if status.step_number:
            text = f"step {status.step_number}/{status.steps_planned}  {text}"
        if status.step_duration_s:
            text += f" of {clock_text(status.step_duration_s)}"
        return Text(text)

    def _holds(self, status: Status) -> Iterator[Text]:
        for why in status.holds.values():
            yield Text(held(why), style="bold black on yellow")

    def _readings(self, status: Status) -> Table:
        table = Table.grid(padding=(0, 2))
        for row in ROWS:
            latest = status.latest.get(row.name)
            if latest is None:
                continue
            age_s = status.time_s - latest.time_s
            table.add_row(
                row.label,
                Text(f"{latest.value * row.scale + row.offset:.4g} {row.unit}", justify="right"),
                Text(sparkline(list(latest.recent)), style="cyan"),
                Text(self._limits(row), style="dim"),
                Text(f"{age_s:.0f} s ago" if age_s >= 1 else "", style="dim"),
            )
        return table

    def _limits(self, row: Row) -> str:
        limits = self._conductor.program.limits
        match row.name:
            case "voltage_V":
                return f"limits {limits.voltage_min_V:g} to {limits.voltage_max_V:g} V"
            case "current_A":
                return f"limit {limits.current_max_A * 1e3:.4g} mA"
            case "stack_pressure_Pa" if limits.pressure_max_Pa is not None:
                return f"at most {limits.pressure_max_Pa / 1e6:g} MPa"
            case _:
                return ""

    def _messages(self, status: Status) -> Iterator[Text]:
        for time_s, text in list(status.messages)[-_MESSAGES_SHOWN:]:
            yield Text(f"{clock_text(time_s)}  {printable(text)}", style="dim")


@contextmanager
def watching(conductor: Conducting, banner: Text, console: Console) -> Iterator[Live | None]:
    """Show a run on ``console`` while the context lasts; yields the live view, if it is one."""
    if console.is_terminal:
        with Live(LiveView(conductor, banner), console=console, refresh_per_second=6) as live:
            yield live
        return
    console.print(banner, soft_wrap=True)
    conductor.journal.listeners.append(_plain(console))
    yield None


def _plain(console: Console) -> Callable[[JournalEntry], None]:
    def show(entry: JournalEntry) -> None:
        text = entry.text
        if entry.kind == "step started":
            text = f"{entry.step}: {entry.data['what']}"
        if text:
            line = f"{clock_text(entry.time_s)}  {printable(text)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show
