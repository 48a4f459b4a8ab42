"""``cellbench protocol import`` and ``export``: protocols from and to other programs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import print_error, print_json, told, writable_output

if TYPE_CHECKING:
    from cellbench.exchange.cycling import Misfit

app = typer.Typer(
    help="Protocols from other programs, and for them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Source(StrEnum):
    """Programs that protocols come from."""

    UNICYCLER = "unicycler"


class Target(StrEnum):
    """Programs that protocols are for."""

    UNICYCLER = "unicycler"
    PYBAMM = "pybamm"


_ENDINGS = {Target.UNICYCLER: ".json", Target.PYBAMM: ".py"}
_PROPER_NAMES = {Target.UNICYCLER: "aurora-unicycler", Target.PYBAMM: "PyBaMM"}
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to write (else: shown).", show_default=False),
]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The other program's protocol.")],
    source: Annotated[Source, typer.Option("--from", help="The other program.")],
    output: _Output = None,
    cell: options.Cell = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a protocol of another program as one of ours, and say what does not fit.

    With --cell the protocol names that cell card, and what it changes is said too.
    """
    with told(as_json=as_json):
        from cellbench.exchange import unicycler
        from cellbench.exchange.protocol_text import protocol_text
        from cellbench.protocol import load_card

        if output is not None:
            writable_output(output, ".yaml", ".yml")
        card = None if cell is None else load_card(None, cell)[0]
        cycling, misfits = unicycler.read(file)
        origin = f"{file.name} ({source})"
        text, misfits = protocol_text(cycling, misfits, origin, card, cell or "")
        _give(text, misfits, output, as_json=as_json)


@app.command()
def export(
    protocol: options.Protocol,
    target: Annotated[Target, typer.Option("--to", help="The other program.")],
    output: _Output = None,
    cell: options.Cell = None,
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a protocol of ours for another program, and say what does not fit.

    unicycler: aurora-unicycler's JSON. pybamm: a Python file that makes a pybamm.Experiment.
    """
    with told(as_json=as_json):
        from cellbench.exchange import pybamm_experiment, unicycler
        from cellbench.exchange.cycling import refuse_fatal
        from cellbench.exchange.reduced import reduced
        from cellbench.protocol import load_card, load_protocol, parse_settings

        if output is not None:
            writable_output(output, _ENDINGS[target])
        card, _ = load_card(protocol, cell)
        cycling, misfits = reduced(load_protocol(protocol, card, parse_settings(sets or [])))
        refuse_fatal(_PROPER_NAMES[target], misfits)
        if target is Target.UNICYCLER:
            text, more = unicycler.written(cycling)
            misfits = [*misfits, *more]
        else:
            text, misfits = pybamm_experiment.written(cycling, misfits)
        _give(text, misfits, output, as_json=as_json)


def _give(text: str, misfits: Sequence[Misfit], output: Path | None, *, as_json: bool) -> None:
    """Write or show a translation, and what does not fit beside it."""
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if as_json:
        told_of = [
            {"step": each.origin.step, "where": each.origin.where, "text": each.text}
            for each in misfits
        ]
        print_json({"text": text, "misfits": told_of})
        return
    typer.echo(text, nl=False) if output is None else typer.echo(output)
    if misfits:
        print_error("\n".join(["what does not fit:", *(f"  {each}" for each in misfits)]))
