"""How the runs of a store look at a glance: a small block for each, who needs a hand first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from cellbench.cli.live import URGENT
from cellbench.cli.words import (
    ROWS,
    age_text,
    clock_text,
    elapsed_text,
    local_text,
    printable,
    sparkline,
    value_text,
)
from cellbench.engine.overview import Reading, Summary

_STYLES = {"ok": "green", "held": "yellow", "stale": "yellow", "trouble": "red", "lost": "red"}
#: Widths of progress bars on a terminal of the usual 80 columns, and on wider ones.
_BAR, _WIDE_BAR = 8, 24
_WIDE_FROM = 110
_KEYS = "q quits   arrow keys choose   Enter shows one"


class Glance:
    """All of them, cropped around the chosen one where the screen is too small.

    Args:
        runs: In the order in which they are shown.
        where: The store, as a person knows it.
        chosen: The id of the run that is marked; empty for none, and for no word of keys.
    """

    def __init__(self, runs: Sequence[Summary], where: str, chosen: str = "") -> None:
        self._runs, self._where, self._chosen = runs, where, chosen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        blocks = [
            list(_block(each, width, each.run == self._chosen, plain=options.ascii_only))
            for each in self._runs
        ]
        yield _cropped(Text(self._head(), style="bold"), width)
        if options.height is not None:
            room = options.height - (2 if self._chosen else 1)
            blocks = blocks[self._first(blocks, room) :]
            lines = [line for block in blocks for line in block][:room]
            yield from lines
            if self._chosen:
                yield from (Text() for _ in range(room - len(lines)))
                yield _cropped(Text(_KEYS, style="dim"), width)
            return
        for block in blocks:
            yield from block

    def _head(self) -> str:
        under_way = sum(each.under_way for each in self._runs)
        needy = sum(each.needs is not None for each in self._runs)
        needs = f", {needy} need{'s' if needy == 1 else ''} a hand" if needy else ""
        runs = f"{under_way} run{'' if under_way == 1 else 's'} under way{needs}"
        return f"{runs}   {local_text(datetime.now().astimezone())}   {self._where}"

    def _first(self, blocks: Sequence[Sequence[Text]], room: int) -> int:
        """The first block to be shown, so that the chosen one is seen whole."""
        ids = [each.run for each in self._runs]
        chosen = ids.index(self._chosen) if self._chosen in ids else 0
        first = 0
        while first < chosen and sum(map(len, blocks[first : chosen + 1])) > room:
            first += 1
        return first


def _block(run: Summary, width: int, chosen: bool, *, plain: bool) -> Iterator[Text]:
    mark = ">" if chosen else " "
    where = f"{run.place}  " if run.place else ""
    named = printable(f"{where}{run.cell}")
    cell = Text.assemble((f"{mark} {named}", "bold"), f"  {printable(run.protocol)}")
    if run.simulated:
        cell.append("  simulated", style="dim")
    state = Text.assemble((run.state, f"bold {_STYLES[run.health]}"), f"  {run.run}")
    yield _justified(cell, state, width)
    if run.needs is not None:
        yield _cropped(Text(f"  {printable(run.needs)}", style=URGENT), width)
    if not run.under_way:
        yield _cropped(Text(f"    {_ended(run)}", style="dim"), width)
    elif run.time_s is not None:
        yield _step(run, width)
        yield _cropped(_course(run, width, plain=plain), width)


def _step(run: Summary, width: int) -> Text:
    if run.step_elapsed_s is None:
        return Text("    no step is under way yet")
    elapsed = elapsed_text(run.step_elapsed_s, run.step_duration_s)
    return _justified(Text(f"    {printable(run.step)}"), Text(elapsed), width)


def _ended(run: Summary) -> str:
    at = "" if run.ended is None else f"{local_text(run.ended)}, "
    after = "" if run.time_s is None else f"after {clock_text(run.time_s)}"
    return f"{at}{after}  {printable(run.verdict or run.step)}"


def _course(run: Summary, width: int, *, plain: bool) -> Text:
    """How far it is, when it ends, and what is measured."""
    line = Text("    ")
    if run.progress is not None:
        line.append_text(_bar(run.progress, _WIDE_BAR if width >= _WIDE_FROM else _BAR, plain))
        line.append(f" {100 * run.progress:.0f} %  ")
    ends = "end unknown" if run.ends_at is None else f"ends {local_text(run.ends_at)}"
    line.append(ends)
    for text, style in _readings(run.latest):
        line.append("  ")
        line.append(text, style=style)
    if width >= _WIDE_FROM and not plain:
        line.append(f"  {sparkline(run.spark)}", style="cyan")
    return line


def _readings(latest: dict[str, Reading]) -> Iterator[tuple[str, str]]:
    """Each reading with its style; one that is not new with its age."""
    for row in ROWS:
        reading = latest.get(row.label)
        if reading is not None:
            age = age_text(reading.age_s, stale=True) if reading.stale else ""
            text = value_text(row, reading.value) + (f" ({age})" if age else "")
            yield text, URGENT if reading.stale else ""


def _bar(done: float, width: int, plain: bool) -> Text:
    full = round(done * width)
    one = "#-" if plain else "━━"
    return Text.assemble((one[0] * full, "green"), (one[1] * (width - full), "dim"))


def _justified(left: Text, right: Text, width: int) -> Text:
    """Two texts at the two ends of a line; the left one gives way."""
    left.truncate(max(0, width - right.cell_len - 2), overflow="ellipsis")
    gap = " " * max(1, width - left.cell_len - right.cell_len)
    return _cropped(Text.assemble(left, gap, right), width)


def _cropped(line: Text, width: int) -> Text:
    """A text that stays on one line."""
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line
