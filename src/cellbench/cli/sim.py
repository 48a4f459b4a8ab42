"""``cellbench sim``: the simulated bench by itself."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from cellbench import system
from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told
from cellbench.cli.prepare import show_list, show_text

app = typer.Typer(help="The simulated bench by itself.", no_args_is_help=True)


@app.command()
def cells(name: options.ShownName = None, as_json: options.AsJson = False) -> None:
    """List the cells that can be on the simulated bench, or show what one is made of.

    Every value stands there with where it is from, and what of the cell's behaviour was put in.
    """
    with told(as_json=as_json):
        from cellbench.bench import simulated_cell_text, simulated_cells

        if name is not None:
            show_text(name, simulated_cell_text(name), as_json=as_json)
            return
        names = simulated_cells()
        if as_json:
            print_json({"cells": names})
            return
        for each in names:
            typer.echo(each)


@app.command()
def benches(name: options.ShownName = None, as_json: options.AsJson = False) -> None:
    """List the simulated benches that --bench can name, or show one: a good beginning for a file.

    Written with real ports in place of "simulated", it is the file of a real bench.
    """
    with told(as_json=as_json):
        from cellbench.bench import simulated_benches
        from cellbench.errors import InputError

        texts = simulated_benches()
        if name is None:
            summaries = {each: _summary(text) for each, text in texts.items()}
            show_list("benches", summaries, as_json=as_json)
        elif name in texts:
            show_text(name, texts[name], as_json=as_json)
        else:
            raise InputError(f"no simulated bench {name!r}; there are: {', '.join(texts)}")


def _summary(text: str) -> str:
    """The comment with which a file begins, or else its first line."""
    return text.partition("\n")[0].lstrip("# ")


@app.command()
def serve(
    cell: Annotated[str, typer.Option("--cell", help="The simulated cell.")] = "LYC_PMMA",
    fixture: options.Fixture = None,
    bench: options.BenchPath = None,
    seed: options.Seed = 0,
    port: Annotated[
        int, typer.Option(help="First TCP port; 0 takes free ones.", min=0, max=65000)
    ] = 15000,
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.", min=0.001)] = 1.0,
    as_json: options.AsJson = False,
) -> None:
    """Serve every emulator on TCP ports and pseudo-terminals, for drivers and other programs.

    Listens on this machine only, until Ctrl-C.
    """
    with told(as_json=as_json):
        from cellbench.bench import simulated_bench
        from cellbench.clock import at_speed, run
        from cellbench.engine.session import played_bench
        from cellbench.wiring import DEFAULT_FIXTURE

        served = (
            simulated_bench(cell, seed, fixture or DEFAULT_FIXTURE)
            if bench is None
            else played_bench(bench, cell, fixture, seed)
        )
        # A program that is to run on it must have its clock go as fast.
        pace = {} if speed == 1.0 else {"speed": speed}

        async def main() -> None:
            async with served, served.serve(port, ptys=not system.WINDOWS) as addresses:
                if as_json:
                    description = served.description(addresses)
                    print_json({"addresses": addresses, "bench": description | pace})
                else:
                    for name, places in addresses.items():
                        typer.echo(f"{name:<14}{'   '.join(places)}")
                    typer.echo("Serving until Ctrl-C. Nothing here is a real instrument.")
                sys.stdout.flush()
                await asyncio.get_running_loop().create_future()

        try:
            run(main(), **at_speed(speed))
        except KeyboardInterrupt as error:
            raise typer.Exit(ExitCode.INTERRUPTED) from error
