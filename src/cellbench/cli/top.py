"""``cellbench top``: all runs of a store at a glance, live."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told
from cellbench.system import pressed_keys, stopping_signals

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cellbench.engine.overview import Summary
    from cellbench.store import Store

#: How often runs under way are asked; one that is over says nothing new.
_LOOK_EVERY_S, _OVER_EVERY_S = 1.0, 60.0
#: How often the screen is drawn.
_DRAW_EVERY_S = 0.25
#: Of what is no terminal.
_PIPE_WIDTH = 120

_Seen = TypeVar("_Seen")


def top(
    ended_within: Annotated[
        float, typer.Option(help="Hours for which runs that have ended are shown.", min=0.0)
    ] = 24.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Show all runs at a glance: under way, lost or just ended; who needs a hand comes first.

    Keys: arrows choose a run, Enter shows it, Escape goes back, q quits.
    """
    with told(as_json=as_json):
        from rich.console import Console

        from cellbench.cli.glance import Glance
        from cellbench.engine.overview import at_a_glance
        from cellbench.store import Store

        recent = timedelta(hours=ended_within)
        with Store(store, make=False) as opened:
            console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
            if as_json:
                runs = at_a_glance(opened, recent)
                print_json({"runs": [each.model_dump(mode="json") for each in runs]})
            elif not once and _can_be_drawn_on(console):
                _Screen(console, opened).show(recent)
            else:
                console.print(Glance(at_a_glance(opened, recent), str(opened.directory)))


def _can_be_drawn_on(console: Console) -> bool:
    return sys.stdin.isatty() and console.is_terminal and not console.is_dumb_terminal


class _Screen:
    """The whole terminal, until somebody quits."""

    def __init__(self, console: Console, store: Store) -> None:
        self._console, self._store = console, store
        self._chosen = ""
        self._one: _Watch[RenderableType] | None = None

    def show(self, recent: timedelta) -> None:
        """Show all runs, or the one that is chosen, until q, Ctrl-C or a polite kill."""
        from rich.live import Live

        from cellbench.engine.overview import at_a_glance

        live = Live(console=self._console, screen=True, auto_refresh=False)
        every_run = _Watch(lambda: at_a_glance(self._store, recent), _LOOK_EVERY_S)
        try:
            with _ended_politely(), live, pressed_keys() as next_key:
                key = ""
                while key != "q":
                    runs = every_run.seen or ()
                    self._obey(key, runs)
                    live.update(self._view(runs), refresh=True)
                    key = next_key(_DRAW_EVERY_S)
        finally:
            self._back()
            every_run.end()

    def _view(self, runs: Sequence[Summary]) -> RenderableType:
        from cellbench.cli.glance import Glance

        if self._one is not None:
            return self._one.seen or "..."
        return Glance(runs, str(self._store.directory), self._chosen)

    def _obey(self, key: str, runs: Sequence[Summary]) -> None:
        ids = [each.run for each in runs]
        if self._chosen not in ids:
            self._chosen = ids[0] if ids else ""
        if not ids:
            return
        place = ids.index(self._chosen)
        if key in {"escape", "left"}:
            self._back()
        elif self._one is not None:
            return
        elif key in {"enter", "right"}:
            self._open(runs[place])
        elif key in {"up", "down"}:
            step = 1 if key == "down" else -1
            self._chosen = ids[min(max(0, place + step), len(ids) - 1)]

    def _open(self, run: Summary) -> None:
        every_s = _LOOK_EVERY_S if run.under_way else _OVER_EVERY_S
        self._one = _Watch(lambda: _one_run(self._store, run.run), every_s)

    def _back(self) -> None:
        if self._one is not None:
            self._one.end()
            self._one = None


def _one_run(store: Store, run_id: str) -> RenderableType:
    """The live view of a run under way, or how one was left."""
    from rich.text import Text

    from cellbench.cli.live import URGENT, LiveView
    from cellbench.cli.now import lines
    from cellbench.engine.afar import look
    from cellbench.engine.overview import PATIENCE_S
    from cellbench.errors import CellbenchError

    try:
        found = look(store, run_id, patience_s=PATIENCE_S)
    except CellbenchError as error:
        return Text(str(error), style=URGENT)
    return LiveView(lambda: found) if "pid" in found else Text("\n".join(lines(found)))


class _Watch(Generic[_Seen]):
    """Looks again and again, in a thread of its own: keys and screen never wait for a run.

    Args:
        look: What is called.
        every_s: How long after it has returned it is called again.
    """

    def __init__(self, look: Callable[[], _Seen], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._seen: _Seen | None = None
        self._error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)
        self._thread.start()

    @property
    def seen(self) -> _Seen | None:
        """What was seen last, None before; raises what the look raised."""
        if self._error is not None:
            raise self._error
        return self._seen

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._seen = self._look()
                self._over.wait(self._every_s)
        except Exception as error:  # noqa: BLE001 (raised where it is looked for)
            self._error = error


@contextmanager
def _ended_politely() -> Iterator[None]:
    """Whatever asks the process to end ends the context: the terminal is left as it was."""
    before = {number: signal.signal(number, _interrupt) for number in stopping_signals()}
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
