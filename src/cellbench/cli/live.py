"""How a run looks while it runs: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cellbench.cli.words import (
    ROWS,
    Row,
    age_text,
    bounds_text,
    clock_text,
    ends_text,
    printable,
    sparkline,
    step_text,
    urgent_lines,
    value_text,
)
from cellbench.engine.overview import progress
from cellbench.engine.snapshot import snapshot

if TYPE_CHECKING:
    from cellbench.engine.run import Conducting
    from cellbench.store import JournalEntry

Look = Callable[[], Mapping[str, Any]]
URGENT = "bold black on yellow"

_BAR_MIN, _BAR_MAX = 10, 40
#: Lines that the terminal itself wants: where the cursor stands.
_SPARE_LINES = 1


class LiveView:
    """The view of one run, drawn anew by rich as often as it likes.

    The newest messages get what is left of the screen's height: nothing above them ever moves out
    of sight.

    Args:
        look: Says what the run does, as `cellbench.engine.snapshot` does.
    """

    def __init__(self, look: Look) -> None:
        self._look = look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found, width = self._look(), options.max_width
        above = [
            *_fitting(banner(found), width),
            *self._progress(found, width),
            Text(step_text(found["step"])),
            *(Text(line, style=URGENT) for line in urgent_lines(found)),
            Text(),
            _readings(found, width, plain=options.ascii_only),
        ]
        used = sum(len(console.render_lines(each, options, pad=False)) for each in above)
        yield from above
        room = max(1, (options.height or console.height) - used - _SPARE_LINES)
        yield from _messages(found, console, width, room)

    def _progress(self, found: Mapping[str, Any], width: int) -> Iterator[Text | Table]:
        name = Text(printable(found["protocol"]), style="bold", no_wrap=True, overflow="ellipsis")
        times = f"{clock_text(found['time_s'])}   {ends_text(found)}"
        if name.cell_len + len(times) + 3 > width:
            yield name
            name = Text()
        line = Table.grid(padding=(0, 3, 0, 0))
        cells: list[Text | ProgressBar] = [*([name] if name else []), Text(times)]
        done, room = progress(found), width - name.cell_len - len(times) - 14
        if done is not None:
            if room >= _BAR_MIN:
                cells.append(ProgressBar(total=1.0, completed=done, width=min(room, _BAR_MAX)))
            cells.append(Text(f"{100 * done:.0f} %"))
        line.add_row(*cells)
        yield line


def banner(found: Mapping[str, Any]) -> tuple[Text, Text]:
    """Whether any of it is real, and which cell and run it is."""
    who = Text(f"cell {printable(found['cell'])}   run {found['run']}")
    if not found["simulated"]:
        return Text(printable(found["bench"]), style="bold"), who
    seed = "" if found["seed"] is None else f" (seed {found['seed']})"
    mark = f"SIMULATED BENCH{seed}: no instrument is connected."
    return Text(mark, style=URGENT), who


def _fitting(parts: tuple[Text, Text], width: int) -> tuple[Text, ...]:
    """Two texts on one line if there is room for both."""
    line = Text("   ").join(parts)
    return (line,) if line.cell_len <= width else parts


def _readings(found: Mapping[str, Any], width: int, *, plain: bool) -> Table:
    """A line for each reading; what there is no room for beside value and age is left out."""
    rows = [(row, found["readings"][row.name]) for row in ROWS if row.name in found["readings"]]
    names = [Text(row.label, no_wrap=True, overflow="ellipsis") for row, _ in rows]
    values = [_value(row, each) for row, each in rows]
    bars = [Text("" if plain else sparkline(each["recent"]), style="cyan") for _, each in rows]
    limits = [Text(_beside(row, each["value"], found), style="dim") for row, each in rows]
    ages = [_age(each) for _, each in rows]
    room = width - sum(map(_width, (names, values, ages)))
    for optional in (limits, bars):
        if _width(optional) > room:
            optional.clear()
        room -= _width(optional)
    table = Table.grid(padding=(0, 2, 0, 0))
    columns = [each for each in (names, values, bars, limits, ages) if each]
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
    return table


def _value(row: Row, reading: Mapping[str, Any]) -> Text:
    style = URGENT if reading["stale"] else ""
    return Text(value_text(row, reading["value"]), style, justify="right", no_wrap=True)


def _age(reading: Mapping[str, Any]) -> Text:
    text = age_text(reading["age_s"], stale=reading["stale"])
    return Text(text, style=URGENT if reading["stale"] else "dim")


def _width(column: Sequence[Text]) -> int:
    """What a column takes, with the space after it."""
    return max((each.cell_len for each in column), default=-2) + 2


def _beside(row: Row, value: float | None, found: Mapping[str, Any]) -> str:
    """A current as a density too, and the limits of a reading."""
    density = ""
    if row.name == "current_A" and value is not None:
        density = f"{value / found['area_m2'] / 10:.4g} mA/cm2"
    bounds = bounds_text(row, *found["limits"][row.name])
    return ", ".join(each for each in (density, bounds) if each)


def _messages(found: Mapping[str, Any], console: Console, width: int, room: int) -> Iterator[Text]:
    """The newest messages, as many as there is room for, the last one at the bottom."""
    shown: list[Text] = []
    for each in reversed(found["messages"]):
        text = f"{clock_text(each['time_s'])}  {printable(each['text'])}"
        lines = list(Text(text, style="dim").wrap(console, width))
        if len(shown) + len(lines) > room:
            break
        shown = [*lines, *shown]
    yield from shown


class ManyView:
    """The view of several runs: a line for each, and below it why one waits."""

    def __init__(self, runs: Callable[[], Sequence[Conducting]]) -> None:
        self._runs = runs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 2, 0, 0))
        shown = [snapshot(run) for run in self._runs()]
        for found in shown:
            table.add_row(*_one_line(found))
        if shown:
            yield banner(shown[0])[0]
        yield table


def _one_line(found: Mapping[str, Any]) -> Iterator[Text]:
    """Where, in what state, at what step, what is measured, and when it ends."""
    state, done = found["ending"] or found["state"], progress(found)
    yield Text(printable(found["place"]), style="bold")
    yield Text("ending" if found["ending"] else state, style="" if state == "running" else "yellow")
    yield Text("" if done is None else f"{100 * done:3.0f} %", justify="right")
    for row in ROWS[:2]:
        reading = found["readings"].get(row.name)
        yield Text("") if reading is None else _value(row, reading)
    why = "; ".join(found["holds"].values()) or step_text(found["step"])
    yield Text(printable(why), no_wrap=True, overflow="ellipsis", style="dim")


@contextmanager
def watching(conductor: Conducting, console: Console) -> Iterator[Live | None]:
    """Show a run on ``console`` while the context lasts; yields the live view, if it is one."""
    if is_live(console):
        view = LiveView(lambda: snapshot(conductor))
        with Live(view, console=console, refresh_per_second=6) as live:
            yield live
        return
    mark = Text("   ").join(banner(snapshot(conductor)))
    console.print(mark, soft_wrap=True)
    conductor.journal.listeners.append(plain(console))
    yield None


def is_live(console: Console) -> bool:
    """Whether a view can be drawn anew there."""
    return console.is_terminal and not console.is_dumb_terminal


def plain(console: Console, place: str = "") -> Callable[[JournalEntry], None]:
    """Return what prints each entry of a journal on a line, with the place of its run."""
    where = f"{place}  " if place else ""

    def show(entry: JournalEntry) -> None:
        text = entry.text
        if entry.kind == "step started":
            text = f"{entry.step}: {entry.data['what']}"
        if text:
            line = f"{where}{clock_text(entry.time_s)}  {printable(text)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show
