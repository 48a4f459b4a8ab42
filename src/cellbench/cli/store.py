"""``cellbench store``: the store as a whole: sound, small, kept twice, moved, merged."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told

if TYPE_CHECKING:
    from cellbench.store import Run, Store
    from cellbench.store.compact import Changed

app = typer.Typer(help="The store: check, compact, back up, move, merge.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def check(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Enter what the catalogue does not know, delete left-overs."),
    ] = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Look whether the store is sound; all of it is read.

    Each finding says what is wrong and what to do. Notes are what may well be as it should. Exit
    codes: 0 no errors, 1 errors, 2 wrong input.
    """
    with told(as_json=as_json):
        from dataclasses import asdict

        from cellbench.store import Store
        from cellbench.store.check import check as look
        from cellbench.store.check import repair as mend
        from cellbench.store.maintenance import alone

        with Store(store, make=False) as opened, alone(opened.directory):
            repaired = list(mend(opened)) if repair else []
            findings = list(look(opened))
            count = sum(1 for _ in (opened.directory / "runs").glob("[!.]*.sqlite"))
        errors = sum(each.severity == "error" for each in findings)
        if as_json:
            print_json({
                "runs": count, "repaired": repaired, "findings": [asdict(each) for each in findings]
            })  # fmt: skip
        else:
            _say([*repaired, *map(str, findings)])
            typer.echo(f"{count} runs, {errors} errors, {len(findings) - errors} notes.")
    raise typer.Exit(ExitCode.STOPPED if errors else ExitCode.FORESEEN_END)


@app.command()
def compact(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's id, the end of one, or last.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help='All that ended so long ago: "30 d".'),
    ] = None,
    yes: Yes = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Make finished runs small: samples, spectra and wire log as Parquet beside the run's file.

    Numbers are read back and compared before the original rows go. Every other command goes on as
    before; only to resume such a run, its rows are brought back first (cellbench store expand).
    Needs pip install "cellbench[data]".
    """
    with told(as_json=as_json):
        from cellbench.store import Store
        from cellbench.store.compact import compact as make_small
        from cellbench.store.maintenance import alone

        with Store(store, make=False) as opened, alone(opened.directory):
            runs = _chosen(opened, run_id, older_than)
            if older_than is not None and runs:
                _confirm(f"Compact {len(runs)} runs?", yes=yes)
            _tell_changed((make_small(opened, run) for run in runs), as_json=as_json)


@app.command()
def expand(
    run_id: options.RunId,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Bring the rows of a compacted run back into its file, to go on with it."""
    with told(as_json=as_json):
        from cellbench.store import Store
        from cellbench.store.compact import expand as make_large
        from cellbench.store.maintenance import alone

        with Store(store, make=False) as opened, alone(opened.directory):
            _tell_changed([make_large(opened, opened.find(run_id))], as_json=as_json)


@app.command()
def retain(
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; else it is only said what would be done.")
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="FILE", help="The rules (else: store.yaml in the store)."),
    ] = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Do what the store's rules say: compact old runs, drop old wire logs.

    Nothing of a run that is not finished; samples, spectra and journals never.
    """
    with told(as_json=as_json):
        from cellbench.store import Store
        from cellbench.store.maintenance import alone
        from cellbench.store.retain import CONFIGURATION, done, due, read_rules

        with Store(store, make=False) as opened, alone(opened.directory):
            found = list(due(opened, read_rules(rules or opened.directory / CONFIGURATION)))
            changed = [done(opened, each) for each in found] if apply else []
        if as_json:
            steps = [{"run": each.run.id, "what": each.what} for each in found]
            print_json({"applied": apply, "due": steps, "changed": _changed_json(changed)})
            return
        _say(f"{each.run.id}: {each.what}" for each in found)
        if not found:
            typer.echo("Nothing is due.")
        elif apply:
            typer.echo(_sum(changed))
        else:
            typer.echo("Nothing was done: --apply does it.")


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(metavar="TO", help="A directory; the same each time.")],
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Copy the store, also while runs are written; what has not changed is not copied again.

    Exit codes: 0 all is copied, 1 something could not be read, 2 wrong input.
    """
    with told(as_json=as_json):
        from dataclasses import asdict

        from cellbench.store import Store
        from cellbench.store.backup import backup as save

        with Store(store, make=False) as opened:
            made = save(opened, to)
        if as_json:
            print_json(asdict(made))
        else:
            _say(f"NOT COPIED: {each}" for each in made.troubles)
            size = _size(made.copied_B)
            typer.echo(f"{made.files} files in {to}, {made.copied} of them copied now ({size}).")
    raise typer.Exit(ExitCode.STOPPED if made.troubles else ExitCode.FORESEEN_END)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A backup.")],
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a store of a backup, where there is none; every file is compared with its checksum."""
    with told(as_json=as_json):
        from cellbench.store.backup import restore as bring_back

        place, count = bring_back(source, store)
        if as_json:
            print_json({"store": str(place), "files": count})
        else:
            typer.echo(f"{count} files restored to {place}, each as its checksum says.")


@app.command()
def move(
    to: Annotated[Path, typer.Argument(metavar="TO", help="The new directory.")],
    yes: Yes = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Move the store to another directory, also on another disk; not while a run is under way.

    The old place keeps a notice, and cellbench says where the store is now.
    """
    with told(as_json=as_json):
        from cellbench.store import data_directory
        from cellbench.store.move import move as carry

        _confirm(f"Move the store {store or data_directory()} to {to}?", yes=yes)
        count = carry(store, to)
        place = to.expanduser().absolute()
        if as_json:
            print_json({"store": str(place), "files": count})
        else:
            typer.echo(f"{count} files moved. From now on: CELLBENCH_STORE={place}")


@app.command()
def merge(
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Another store, or a backup.")],
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Take in the runs of another store, or of a backup, that are not here; it stays as it is.

    Its campaigns come along. Exit codes: 0 all is here now, 1 some runs were left there, 2 wrong
    input.
    """
    with told(as_json=as_json):
        from dataclasses import asdict

        from cellbench.store import Store
        from cellbench.store.merge import Fate
        from cellbench.store.merge import merge as take_in

        with Store(store) as opened:
            merged = []
            for each in take_in(opened, other):
                merged.append(each)
                if not as_json and each.fate is not Fate.HERE:
                    renamed = f" {each.here}" if each.fate is Fate.RENAMED else ""
                    why = f": {each.why}" if each.why else ""
                    typer.echo(f"{each.run}: {each.fate}{renamed}{why}")
        left = sum(each.fate is Fate.LEFT for each in merged)
        here = sum(each.fate is Fate.HERE for each in merged)
        if as_json:
            print_json({"runs": [asdict(each) for each in merged]})
        else:
            taken = len(merged) - left - here
            typer.echo(
                f"{len(merged)} runs: {taken} taken, {here} here already, {left} left there."
            )
    raise typer.Exit(ExitCode.STOPPED if left else ExitCode.FORESEEN_END)


def _chosen(store: Store, run_id: str | None, older_than: str | None) -> list[Run]:
    """The runs that are meant; of many, those that are finished and not compact yet."""
    from datetime import UTC, datetime, timedelta

    from cellbench.errors import InputError
    from cellbench.quantities import QuantityError, parse
    from cellbench.store.compact import has_rows
    from cellbench.store.maintenance import why_unfinished

    if (run_id is None) == (older_than is None):
        raise InputError('name one run, or say which: --older-than "30 d"')
    if run_id is not None:
        return [store.find(run_id)]
    try:
        age = timedelta(seconds=parse(str(older_than), "time"))
    except (QuantityError, OverflowError) as error:
        raise InputError(f"--older-than: {error}") from error
    before = datetime.now(UTC) - age
    return [
        run
        for run in store.search(limit=None)
        if run.ended is not None and run.ended.replace(tzinfo=UTC) <= before
        if why_unfinished(store, run) is None and has_rows(store.run_path(run.id))
    ][::-1]


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        from cellbench.errors import InputError

        raise InputError(f"{question} Nobody is here to be asked: add --yes")
    typer.confirm(question, abort=True)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _tell_changed(changes: Iterable[Changed], *, as_json: bool) -> None:
    """Tell of each as it is done: should a later one fail, that is known."""
    changed = []
    for each in changes:
        changed.append(each)
        if not as_json:
            counts = ", ".join(f"{count} rows of {kind}" for kind, count in each.rows.items())
            typer.echo(f"{each.run}: {counts or 'nothing to do'}")
    if as_json:
        print_json({"changed": _changed_json(changed)})
    else:
        typer.echo(_sum(changed))


def _changed_json(changed: Sequence[Changed]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(each) for each in changed]


def _sum(changed: Sequence[Changed]) -> str:
    before, after = sum(each.before_B for each in changed), sum(each.after_B for each in changed)
    return f"{len(changed)} runs, {_size(before)} before, {_size(after)} now."


def _size(size_B: int) -> str:
    return f"{size_B / 1e6:.1f} MB" if size_B < 1e9 else f"{size_B / 1e9:.2f} GB"
