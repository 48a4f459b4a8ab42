"""``cellbench bench``: what is connected, a bench file of it, and whether it is to be trusted."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, print_json, told
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from rich.console import Console

    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.commissioning.check import Checked
    from cellbench.engine.commissioning.drill import Drilled, Trial
    from cellbench.engine.commissioning.installation import Installation
    from cellbench.engine.commissioning.scan import Found

T = TypeVar("T")

app = typer.Typer(
    help="Find instruments, write a bench file, and see that a bench can be trusted.",
    no_args_is_help=True,
)

_NAME_AND_UNIT = re.compile(r"(.+?)_((?:V|A|Hz|s|N|K)(?:_per_s)?)")
Current = Annotated[
    str, typer.Option("--current", help="The test current: small, but enough for 30 mV.")
]
Voltage = Annotated[
    str, typer.Option("--voltage", help="What the dummy cell may see at most, either sign.")
]


class Ends(StrEnum):
    """What ends a line on the console."""

    LF = "lf"
    CR = "cr"
    CRLF = "crlf"
    NONE = "none"


# --- scan -----------------------------------------------------------------------------------------


@app.command()
def scan(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST]...", help="Hosts to try too, by name or address."),
    ] = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option("--bench", help="A bench file whose hosts are tried too; repeatable."),
    ] = None,
    network: Annotated[
        bool,
        typer.Option("--network", help="Ask the whole network for VISA instruments (broadcasts)."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """List serial ports, VISA resources and TCP services, with the drivers that likely fit.

    Nothing is sent to a serial port. Only this computer and the hosts that are named are tried;
    what a run has in use is left alone.
    """
    with told(as_json=as_json):
        from cellbench.engine.commissioning.installation import install
        from cellbench.engine.commissioning.scan import scan as scan_all

        files = [install(each).file for each in bench or []]
        found = asyncio.run(scan_all(hosts or [], files, network=network))
        if as_json:
            print_json({"found": [asdict(each) for each in found]})
            return
        for each in found:
            typer.echo(_line(each))
        if not found:
            typer.echo("nothing found: no serial port, no VISA resource, no TCP service")


def _line(found: Found) -> str:
    parts = [f"{found.address:<28}", found.what]
    parts += [f"driver: {' or '.join(found.drivers)}"] if found.drivers else []
    parts += [f"in use by {found.owner}"] if found.owner else []
    return "  ".join(part for part in parts if part).rstrip()


# --- init -----------------------------------------------------------------------------------------


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The bench file to write.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the bench.")] = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(
            "--instrument",
            metavar="'NAME: {driver: ..., port: ...}'",
            help="An instrument as the file writes it; repeatable. Nothing is asked then.",
        ),
    ] = None,
    fixture: Annotated[
        str | None,
        typer.Option(
            "--fixture", help="As in {die: 10 mm, kind: servo, at most: 5 kN}; none without it."
        ),
    ] = None,
    wiring: Annotated[
        str | None,
        typer.Option(
            "--wiring",
            help="Of two channels to one cell, as in 'A1: {cycling: ..., impedance: ..., "
            "changeover: operator}'.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Write a bench file by asking, or from options. It is checked, and never overwrites another.

    Nothing is connected: see cellbench bench check.
    """
    with told():
        from cellbench.engine.commissioning import bench_file
        from cellbench.errors import InputError

        bench_file.may_be_written(path)
        block = bench_file.read_block(fixture, "--fixture") if fixture else None
        wires = dict([bench_file.read_named_block(wiring, "--wiring")]) if wiring else None
        if instrument:
            read = [bench_file.read_named_block(each, "--instrument") for each in instrument]
            instruments = dict(read)
            if len(instruments) < len(read):
                raise InputError("--instrument: two instruments have one name")
        elif yes:
            raise InputError("--yes asks nothing: give every instrument with --instrument")
        else:
            name = name or typer.prompt("Name of the bench")
            instruments = _ask_for_instruments(path.parent)
            wires = wires or _ask_for_wiring(bench_file.roles_of(instruments, path.parent))
            block = block or _ask_for_fixture()
        text = bench_file.compose(name or path.stem, instruments, block, wires)
        bench_file.checked(text, path)
        typer.echo(text, nl=False)
        if yes or typer.confirm(f"Write this to {path}?", default=True):
            bench_file.write(text, path)
            typer.echo(f"written: {path}. Next: cellbench bench check --bench {path}")
        else:
            typer.echo("nothing is written")


def _ask_for_instruments(beside: Path) -> dict[str, dict[str, Any]]:
    from cellbench.engine.commissioning.scan import scan as scan_all

    instruments: dict[str, dict[str, Any]] = {}
    for found in asyncio.run(scan_all()):
        for driver in found.drivers:
            shown = f"{found.address} {found.what}".strip()
            if typer.confirm(f"{shown}: add it with driver {driver}?", default=False):
                _add(instruments, driver, found.address, beside)
                break
    while driver := _ask_for_driver(first=not instruments):
        _add(instruments, driver, "", beside)
    return instruments


def _ask_for_driver(*, first: bool) -> str:
    from cellbench.instruments.registry import driver_names

    known = driver_names()
    end = "" if first else " (Enter: no more)"
    while True:
        hint = f"Driver of {'an' if first else 'another'} instrument{end}"
        driver: str = typer.prompt(hint, default="", show_default=False).strip()
        if driver in known or ".py:" in driver or (not driver and not first):
            return driver
        typer.echo(f"Drivers: {', '.join(known)}")


def _add(instruments: dict[str, dict[str, Any]], driver: str, address: str, beside: Path) -> None:
    """Ask for one instrument until it is right."""
    from cellbench.engine.commissioning import bench_file
    from cellbench.errors import InputError
    from cellbench.instruments.registry import load_driver

    try:
        role = load_driver(driver, beside).role
    except InputError as error:
        typer.echo(str(error))
        return
    while True:
        name = typer.prompt("Its name", default=role)
        if name not in instruments:
            break
        typer.echo(f'there is a "{name}" already')
    while True:
        port = typer.prompt(
            "Its port (COM7, usb:..., host:port, visa:...)", default=address or None
        )
        written = typer.prompt("Options (key: value, key: value)", default="", show_default=False)
        try:
            block = {"driver": driver, "port": port, **bench_file.read_block(written, "options")}
            bench_file.check_instrument(name, block, beside)
        except InputError as error:
            typer.echo(str(error))
            continue
        instruments[name] = block
        return


def _ask_for_wiring(roles: dict[str, str]) -> dict[str, dict[str, Any]] | None:
    """How two channels share one cell; None where there is one channel."""
    channels = [name for name, role in roles.items() if role == "channel"]
    if len(channels) < 2:
        return None
    switches = [name for name, role in roles.items() if role == "switch"]
    cell = typer.prompt("Name of the cell that they share", default="cell A1")
    wiring = {
        "cycling": _ask_for_one("Which of them runs all but spectra", channels),
        "impedance": _ask_for_one("Which takes spectra", channels),
        "changeover": _ask_for_one("What moves the cell between them", ["operator", *switches]),
    }
    return {cell: wiring}


def _ask_for_one(question: str, choices: Sequence[str]) -> str:
    while True:
        answer: str = typer.prompt(f"{question} ({', '.join(choices)})")
        if answer in choices:
            return answer
        typer.echo(f'"{answer}" is none of them')


def _ask_for_fixture() -> dict[str, Any] | None:
    from typing import get_args

    from cellbench.instruments.capabilities import FixtureKind

    die = typer.prompt("Die diameter, as in 10 mm (Enter: no fixture)", default="")
    if not die:
        return None
    kind = _ask_for_one("What holds the stack", get_args(FixtureKind))
    return {"die": die, "kind": kind, "at most": typer.prompt("Largest force, as in 5 kN")}


# --- check ----------------------------------------------------------------------------------------


@app.command()
def check(
    bench: options.BenchPath = None,
    sim_cell: options.SimCell = None,
    fixture: options.Fixture = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Connect to every instrument, identify it, and see that it is in its safe state.

    Nothing is energised. Exit codes: 0 all is well, 2 wrong input, 3 an instrument does not answer,
    or its safe state is not confirmed.
    """
    with told(as_json=as_json):
        from cellbench.engine.commissioning.check import check as check_all
        from cellbench.engine.commissioning.installation import install

        installation = install(bench, sim_cell=sim_cell, fixture=fixture, seed=seed)
        console = _console(as_json=as_json)
        person = _person(console, as_json=as_json)
        found = _conducted(installation, lambda: check_all(installation, person))
        sound = all(each.sound for each in found)
        if as_json:
            rows = [asdict(each) | {"sound": each.sound} for each in found]
            print_json(_header(installation) | {"instruments": rows, "sound": sound})
        else:
            _tell_bench(installation, console)
            for each in found:
                _tell_checked(each, console)
            missing = [each.name for each in found if not each.sound]
            typer.echo("all is well" if sound else f"not as it should be: {', '.join(missing)}")
    raise typer.Exit(ExitCode.FORESEEN_END if sound else ExitCode.INSTRUMENT_TROUBLE)


def _tell_checked(each: Checked, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from cellbench.cli.words import printable

    table = Table(title=Text(f"{each.name}  ({each.role}: {each.driver} at {each.port})"))
    table.title_justify = "left"
    table.show_header = False
    rows = {
        "model": each.model,
        "serial": each.serial,
        "firmware": each.firmware,
        "remarks": "\n".join(each.remarks),
        "reads": each.reading,
        "can": "\n".join(_capabilities(each.capabilities)),
        "unverified": ", ".join(each.unverified),
        "state": f"{each.state}: {'confirmed' if each.confirmed else 'NOT CONFIRMED'}",
        "error": each.error,
    }
    if each.error and not each.model:
        rows = {"error": each.error}
    for label, text in rows.items():
        if text:
            table.add_row(label, Text("\n".join(printable(line) for line in text.split("\n"))))
    console.print(table)


def _capabilities(declared: Any) -> list[str]:
    """What an instrument can do, one line each: names with their units taken apart."""
    lines = []
    for key, value in declared.items():
        if key in {"model", "unverified"} or value is None:
            continue
        if isinstance(value, dict):
            text = "; ".join(_capabilities(value))
        elif isinstance(value, list):
            text = ", ".join(str(each) for each in value) or "nothing"
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        named = _NAME_AND_UNIT.fullmatch(key)
        name, unit = (named[1], f" {named[2].replace('_per_', '/')}") if named else (key, "")
        lines.append(f"{name.replace('_', ' ')}: {text}{unit}")
    return lines


# --- drill ----------------------------------------------------------------------------------------


@app.command()
def drill(
    instrument: Annotated[
        str | None, typer.Argument(help="The channel; needed where the bench has several.")
    ] = None,
    bench: options.BenchPath = None,
    current: Current = "0.1 mA",
    voltage: Voltage = "2 V",
    dummy_cell: Annotated[
        bool,
        typer.Option("--dummy-cell", help="A dummy cell is connected: do not ask."),
    ] = False,
    sim_cell: options.SimCell = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """On a dummy cell, trip every limit once and see that the output goes off, and how fast.

    A dummy cell is a resistor (1 to 10 kOhm) or a cell that nobody will miss. Exit codes: 0 every
    limit acts, 2 wrong input, 3 one does not, or the output is not confirmed off.
    """
    with told(as_json=as_json):
        from cellbench.engine.commissioning.drill import drill as drill_all
        from cellbench.engine.commissioning.installation import install
        from cellbench.quantities import parse

        current_A, voltage_V = parse(current, "current"), parse(voltage, "voltage")
        installation = install(bench, sim_cell=sim_cell, seed=seed)
        name = instrument or _only_channel(installation)
        console = _console(as_json=as_json)
        if not as_json:
            _tell_bench(installation, console)
        if installation.simulator is None and not dummy_cell:
            _ask_consent(name, current, voltage)
        drilled = _conducted(
            installation,
            lambda: drill_all(
                installation,
                name,
                current_A,
                voltage_V,
                operator=_person(console, as_json=as_json),
                report=(lambda _: None) if as_json else _tell_trial,
                say=print_error,
            ),
        )
        if as_json:
            print_json(_header(installation) | asdict(drilled) | {"passed": drilled.passed})
        else:
            _tell_drilled(drilled)
    raise typer.Exit(ExitCode.FORESEEN_END if drilled.passed else ExitCode.INSTRUMENT_TROUBLE)


def _only_channel(installation: Installation) -> str:
    from cellbench.errors import InputError

    channels = installation.channels()
    if len(channels) != 1:
        named = ", ".join(channels) or "none"
        raise InputError(f"{installation.file.bench}: name the channel to drill; it has: {named}")
    return channels[0]


def _ask_consent(name: str, current: str, voltage: str) -> None:
    """Energise nothing that nobody has agreed to."""
    from cellbench.errors import InputError

    if not sys.stdin.isatty():
        raise InputError("a drill drives a current: connect a dummy cell, and say --dummy-cell")
    typer.echo(f"{name} will drive {current} through its cell, up to {voltage}, and trip limits.")
    if typer.prompt('Type "dummy" if a dummy cell is connected to it').strip() != "dummy":
        raise InputError("no dummy cell: nothing was energised")


def _tell_trial(trial: Trial) -> None:
    verdict = {True: "ok", False: "FAILED", None: "not tried"}[trial.passed]
    took = "" if trial.reaction_s is None else f"{trial.reaction_s:.2f} s"
    typer.echo(f"{verdict:<10}{trial.what:<26}{trial.by:<12}{took:<10}{trial.told}")


def _tell_drilled(drilled: Drilled) -> None:
    if drilled.dummy is not None:
        typer.echo(f"dummy cell: {drilled.dummy.resistance_ohm:.4g} Ω")
    typer.echo(f"{drilled.channel}: {drilled.left}: {_confirmed(drilled.confirmed)}")
    failed = [trial.what for trial in drilled.trials if trial.passed is False]
    typer.echo(f"failed: {', '.join(failed)}" if failed else "every limit that was tried acts")


# --- console --------------------------------------------------------------------------------------


@app.command()
def console(
    instrument: Annotated[str, typer.Argument(help="The instrument, as the bench file calls it.")],
    bench: options.BenchPath = None,
    hexadecimal: Annotated[
        bool, typer.Option("--hex", help="Bytes in hexadecimal, both ways.")
    ] = False,
    ends: Annotated[Ends, typer.Option(help="What ends a line that is sent.")] = Ends.LF,
    wait: Annotated[str, typer.Option(help="An answer is over after so much silence.")] = "0.5 s",
    log: Annotated[
        Path | None, typer.Option(help="Takes it down (else: console-NAME-TIME.log here).")
    ] = None,
    sim_cell: options.SimCell = None,
    seed: options.Seed = 0,
) -> None:
    """Talk to an instrument line by line; all of it is kept in a file with its times.

    Ends with Ctrl-D (Windows: Ctrl-Z, Enter) or Ctrl-C, and leaves the instrument quiet. Refuses
    while a run owns the instrument.
    """
    with told():
        from cellbench.engine.commissioning.console import Wording, converse
        from cellbench.engine.commissioning.installation import install
        from cellbench.quantities import parse

        wait_s = parse(wait, "time")
        installation = install(bench, sim_cell=sim_cell, seed=seed)
        installation.require_wire(instrument)
        path = log or _log_path(instrument)
        with path.open("x", encoding="utf-8") as file:
            typer.echo(f"kept in {path}")
            outcome = _conducted(
                installation,
                lambda: converse(
                    installation,
                    instrument,
                    ask=_lines(f"{instrument}> "),
                    show=typer.echo,
                    log=file,
                    wording=Wording(ends.value, hexadecimal=hexadecimal),
                    wait_s=wait_s,
                ),
            )
    raise typer.Exit(ExitCode.FORESEEN_END if outcome.confirmed else ExitCode.INSTRUMENT_TROUBLE)


def _log_path(instrument: str) -> Path:
    """A file of its own in the working directory."""
    name = "".join(each if each.isalnum() else "_" for each in instrument)
    return Path(f"console-{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.log")


def _lines(prompt: str) -> Callable[[], Awaitable[str | None]]:
    """Read standard input line by line; while a person types, virtual time stands still."""
    from cellbench.clock import unseen

    async def ask() -> str | None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()

        def take(line: str) -> None:
            if not answer.done():
                answer.set_result(line.rstrip("\r\n") if line else None)

        def read() -> None:
            loop.call_soon_threadsafe(take, sys.stdin.readline())

        if sys.stdin.isatty():
            typer.echo(prompt, nl=False)
        # A daemon: after Ctrl-C nobody waits for the Enter key.
        threading.Thread(target=read, name="console", daemon=True).start()
        return await unseen(answer, patient=True)

    return ask


# --- What they share ------------------------------------------------------------------------------


def _conducted(installation: Installation, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on a bench, in virtual time if it is simulated; Ctrl-C ends it through its clean-up."""
    from cellbench import clock

    stopping = Stopping()

    async def main() -> T:
        with stopping.cancels_this_task():
            return await work()

    try:
        return clock.run(main(), virtual=installation.simulator is not None)
    except asyncio.CancelledError as error:
        raise typer.Exit(ExitCode.INTERRUPTED) from error


def _console(*, as_json: bool) -> Console:
    from rich.console import Console

    return Console(stderr=as_json, quiet=as_json and not os.isatty(2))


def _person(console: Console, *, as_json: bool) -> ConsoleOperator | None:
    """Whoever sits at the terminal, if there is one."""
    from cellbench.cli.operator import ConsoleOperator

    return ConsoleOperator(console) if console.is_terminal and not as_json else None


def _header(installation: Installation) -> dict[str, Any]:
    simulated = installation.simulator is not None
    return {"bench": installation.file.bench, "simulated": simulated}


def _tell_bench(installation: Installation, console: Console) -> None:
    from rich.text import Text

    simulated = "SIMULATED BENCH: no instrument is connected.   "
    text = Text(installation.file.bench, style="bold")
    if installation.simulator is not None:
        text = Text.assemble((simulated, "bold black on yellow"), installation.file.bench)
    console.print(text, soft_wrap=True)


def _confirmed(confirmed: bool) -> str:
    return "confirmed" if confirmed else "NOT CONFIRMED"
