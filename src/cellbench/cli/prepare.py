"""Before a run: ``cellbench check``, ``plan``, ``schema``, and what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told


def check(
    protocol: options.Protocol,
    cell: options.Cell = None,
    bench: options.BenchPath = None,
    fixture: options.Fixture = None,
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Find what can be found wrong with a protocol without energising anything."""
    with told(as_json=as_json):
        from cellbench.analysis import available
        from cellbench.engine.session import prepare
        from cellbench.protocol import check as check_program

        session = prepare(protocol, cell=cell, fixture=fixture, bench=bench, sets=sets or [])
        found = check_program(session.program, session.declared(), available())
        if as_json:
            print_json(found.answer())
            raise typer.Exit(ExitCode.WRONG_INPUT if found.problems else ExitCode.FORESEEN_END)
        found.raise_problems()
        typer.echo(f"{session.program.name}: no problem found on {session.file.bench}.")
        for text in found.deviations:
            typer.echo(f"deviation: {text}")


def plan(
    protocol: options.Protocol,
    cell: options.Cell = None,
    bench: options.BenchPath = None,
    fixture: options.Fixture = None,
    sets: options.Sets = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Estimate by running the simulated bench.")
    ] = False,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Print every step with its duration, charge and bounds, and when the run will end."""
    with told(as_json=as_json):
        from cellbench.analysis import available
        from cellbench.engine.session import prepare
        from cellbench.protocol import check as check_program
        from cellbench.protocol import plan as plan_program

        session = prepare(
            protocol, cell=cell, fixture=fixture, bench=bench, sets=sets or [], seed=seed
        )
        declared = session.declared()
        check_program(session.program, declared, available()).raise_problems()
        planned = plan_program(session.program, declared)
        simulation = None
        if simulate:
            from cellbench.engine.simulation import simulate as simulate_session

            simulation = simulate_session(session)
        if as_json:
            answer = planned.answer()
            print_json(answer | ({} if simulation is None else {"simulation": simulation}))
            return
        for line in planned.lines():
            typer.echo(line)
        if simulation is not None:
            typer.echo(
                f"simulated: {simulation['duration_h']:.2f} h, {simulation['steps']} steps, "
                f"{simulation['samples']} samples, {simulation['state']}: {simulation['reason']}"
            )


def schema() -> None:
    """Print the JSON Schema of the protocol language, for editors."""
    with told():
        from cellbench.protocol import json_schema

        print_json(json_schema())


def protocols(name: options.ShownName = None, as_json: options.AsJson = False) -> None:
    """List the shipped protocols, or show one: a good beginning for one's own."""
    with told(as_json=as_json):
        from cellbench import library
        from cellbench.protocol import shipped_protocols

        if name is None:
            show_list("protocols", shipped_protocols(), as_json=as_json)
        else:
            show_text(name, library.find_protocol(name).read_text("utf-8"), as_json=as_json)


def cells(name: options.ShownName = None, as_json: options.AsJson = False) -> None:
    """List the shipped cell cards, or show one: a good beginning for one's own."""
    with told(as_json=as_json):
        from cellbench import library
        from cellbench.protocol import shipped_cells

        if name is None:
            show_list("cells", shipped_cells(), as_json=as_json)
        else:
            show_text(name, library.find_card(name).read_text("utf-8"), as_json=as_json)


def analyses(name: options.ShownName = None, as_json: options.AsJson = False) -> None:
    """List the analyses that a protocol can name, or show how one defines what it gives."""
    with told(as_json=as_json):
        from cellbench.analysis import available, definition

        if name is None:
            found = {each: definition(each).partition("\n")[0] for each in available()}
            show_list("analyses", found, as_json=as_json)
        else:
            show_text(name, definition(name) + "\n", as_json=as_json)


def drivers(as_json: options.AsJson = False) -> None:
    """List the installed drivers."""
    with told(as_json=as_json):
        from cellbench.instruments.registry import driver_names, load_driver

        found = {name: load_driver(name) for name in driver_names()}
        summaries = {name: f"{driver.role}: {driver.summary}" for name, driver in found.items()}
        show_list("drivers", summaries, as_json=as_json)


def show_text(name: str, text: str, *, as_json: bool) -> None:
    """Show a file, or what stands for one."""
    if as_json:
        print_json({"name": name, "text": text})
    else:
        typer.echo(text, nl=False)


def show_list(what: str, summaries: dict[str, str], *, as_json: bool) -> None:
    """List what there is, each with its line."""
    if as_json:
        rows = [{"name": name, "summary": text} for name, text in summaries.items()]
        print_json({what: rows})
        return
    width = max(len(name) for name in summaries)
    for name, text in summaries.items():
        typer.echo(f"{name:<{width}}  {text}")
