"""``cellbench replay``: repeat a recorded run, and say where it first differs."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told

if TYPE_CHECKING:
    from cellbench.engine.recorded import Recording
    from cellbench.engine.replay import Found, Replayed
    from cellbench.engine.rerun import Rerun
    from cellbench.transport.messages import Message
    from cellbench.transport.replaying import Divergence

#: Lines of a long message that are shown before the one that differs.
_LINES_BEFORE = 2
_DIFFERENCES_SHOWN = 20


class On(StrEnum):
    """What a run is repeated on."""

    RECORDING = "recording"
    SIM = "sim"


def replay(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the end of one, last, or a file.")
    ],
    lenient: Annotated[
        bool | None,
        typer.Option(
            "--lenient/--strict",
            help="Compare what is sent by its meaning, or byte for byte (else: by meaning what was "
            "recorded in real time).",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        On, typer.Option("--on", help="sim: run it again on the simulated bench, and compare.")
    ] = On.RECORDING,
    timing: Annotated[
        str | None,
        typer.Option(
            "--timing",
            help="How much earlier or later than recorded a frame may be (else 1 ms for virtual "
            "time, 10 s for real time or with --lenient).",
        ),
    ] = None,
    protocol: Annotated[
        Path | None, typer.Option("--protocol", help="Another protocol file than the run's own.")
    ] = None,
    sets: options.Sets = None,
    drivers: Annotated[
        Path | None, typer.Option("--drivers", help="Where driver files of the bench are.")
    ] = None,
    sim_cell: options.SimCell = None,
    fixture: options.Fixture = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="With --on sim; else the run's.", min=0)
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="With --on sim: how far results may be apart, in percent.", min=0),
    ] = 5.0,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Repeat a recorded run in virtual time, and report where it first does something else.

    The run must have been recorded (cellbench run --record); with --on sim any run will do. Exit
    codes: 0 it does the same, 1 it does not, 2 wrong input.
    """
    with told(as_json=as_json):
        if on is On.SIM:
            same = _on_sim(
                _recorded(run_id, store, with_results=True),
                {
                    "sim_cell": sim_cell,
                    "fixture": fixture,
                    "seed": seed,
                    "protocol": protocol,
                    "sets": sets or [],
                },
                tolerance / 100,
                as_json=as_json,
            )
        else:
            from cellbench.engine.replay import replay as repeat

            recording = _recorded(run_id, store)
            replayed = repeat(
                recording,
                by_meaning=lenient,
                bound_s=_seconds(timing),
                protocol=protocol,
                sets=sets or [],
                drivers=drivers,
            )
            _tell(recording, replayed, as_json=as_json)
            same = replayed.found is None
    raise typer.Exit(ExitCode.FORESEEN_END if same else ExitCode.STOPPED)


def _recorded(run_id: str, store: Path | None, *, with_results: bool = False) -> Recording:
    from cellbench.engine.recorded import read_recording, recording_of
    from cellbench.store import RunReader, Store

    if Path(run_id).is_file():
        return read_recording(Path(run_id))
    with Store(store, make=False) as opened:
        run = opened.find(run_id)
        reader = RunReader(opened.run_path(run.id))
        if not with_results:
            return recording_of(run, reader)
        from cellbench.engine.evaluation import evaluate
        from cellbench.protocol import parse_card

        card = parse_card(reader.documents["cell"], f"the card of run {run.id}")
        results = evaluate(opened, run, card).results
        return recording_of(run, reader, results, needs_wire=False)


def _seconds(text: str | None) -> float | None:
    from cellbench.errors import InputError
    from cellbench.quantities import QuantityError, parse

    if text is None:
        return None
    try:
        return parse(text, "time")
    except QuantityError as error:
        raise InputError(f"--timing: {error}") from error


# --- Against the recording ------------------------------------------------------------------------


def _tell(recording: Recording, replayed: Replayed, *, as_json: bool) -> None:
    if as_json:
        print_json(_answer(replayed))
        return
    for line in _lines(recording, replayed):
        typer.echo(line)


def _answer(replayed: Replayed) -> dict[str, Any]:
    from dataclasses import asdict

    answer = asdict(replayed)
    divergence = answer["found"]["divergence"] if answer["found"] else None
    if divergence:
        for name in ("expected_bytes", "sent_bytes"):
            divergence[name] = divergence[name].hex(" ")
        for name in ("expected", "sent"):
            divergence[name] = divergence[name] and divergence[name]["text"]
    return answer


def _lines(recording: Recording, replayed: Replayed) -> Iterator[str]:
    from cellbench.cli.words import clock_text

    run = recording.run
    yield (
        f"{run.protocol} on {run.cell}, run {run.id}: {clock_text(replayed.span_s)} on the wire, "
        f"{replayed.frames} frames on {replayed.connections} connections, "
        f"compared {'by meaning' if replayed.by_meaning else 'byte for byte'} in "
        f"{replayed.wall_s:.1f} s"
    )
    if replayed.found is not None:
        yield from _found_lines(replayed.found)
        if recording.facts["time"] == "real" and not replayed.by_meaning:
            yield (
                "The run was in real time: where a look at an instrument falls may hang on a "
                "millisecond, which --strict does not allow for."
            )
        return
    if replayed.cut_off_s is None:
        yield "No divergence: today's code does what was recorded."
    else:
        yield (
            f"No divergence up to the end of the recording, which was cut off at "
            f"{clock_text(replayed.cut_off_s)}."
        )
    if max(replayed.earliest_s, replayed.latest_s) > 1e-3:
        yield (
            f"Frames up to {replayed.earliest_s:.2f} s earlier and {replayed.latest_s:.2f} s "
            "later than recorded."
        )
    if replayed.left_out or replayed.added:
        yield (f"Of routine requests {replayed.left_out} were left out and {replayed.added} added.")


def _found_lines(found: Found) -> Iterator[str]:
    from cellbench.cli.words import printable

    now = _where(found.time_s, found.step)
    divergence = found.divergence
    if divergence is None:
        yield f"First divergence at {now}: the wire is the same, the ledger is not"
        yield f"  {printable(found.text)}"
        return
    yield f"First divergence: {divergence.connection}, at {now}"
    if found.expected_s is not None:
        yield f"  recorded at {_where(found.expected_s, found.expected_step)}"
    match divergence.what:
        case "time" if found.expected_s is not None:
            late_s = found.time_s - found.expected_s
            said = "later" if late_s > 0 else "earlier"
            if divergence.expected is not None:
                yield f"  sent          {_shortened(divergence.expected)}"
            yield f"  {abs(late_s):.4g} s {said} than recorded"
        case "unopened":
            yield "  the connection was opened, and is not any more"
        case _:
            yield from _both_lines(divergence.expected, divergence.sent)
            if divergence.expected_bytes and not _is_told(divergence):
                yield from _byte_lines(divergence.expected_bytes, divergence.sent_bytes)


def _where(time_s: float, step: str) -> str:
    from cellbench.cli.words import clock_text

    if time_s < 0:
        return "the connecting of the bench"
    text = f"{clock_text(int(time_s))}.{int(time_s % 1 * 1000):03d}"
    return f"{text}, step {step}" if step else text


def _both_lines(expected: Message | None, sent: Message | None) -> Iterator[str]:
    """What was expected and what was sent; of long messages the first line that differs."""
    first = expected.text.splitlines() if expected else ["nothing: the recording has no more"]
    second = sent.text.splitlines() if sent else ["nothing"]
    at = next(
        (index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)) if len(first) != len(second) else 0,
    )
    for line in first[max(0, at - _LINES_BEFORE) : at]:
        yield f"                {_one_line(line)}"
    place = f"   (line {at + 1} of {max(len(first), len(second))})"
    place = place if max(len(first), len(second)) > 1 else ""
    yield f"  expected      {_line(first, at)}{place}"
    yield f"  sent          {_line(second, at)}"


def _is_told(divergence: Divergence) -> bool:
    """Whether what reads as text tells the difference by itself."""
    expected, sent = divergence.expected, divergence.sent
    if expected is None or sent is None or expected.text == sent.text:
        return False
    return all(
        data.isascii() and message.text.split() == data.decode("ascii").split()
        for data, message in (
            (divergence.expected_bytes, expected),
            (divergence.sent_bytes, sent),
        )
    )


def _byte_lines(expected: bytes, sent: bytes) -> Iterator[str]:
    """Where bytes differ that read the same, or are no text."""
    at = next(
        (index for index, (a, b) in enumerate(zip(expected, sent, strict=False)) if a != b),
        min(len(expected), len(sent)),
    )
    start = max(0, at - 8)
    yield (
        f"  from byte {at}: expected {expected[start : at + 16].hex(' ') or 'nothing'}, "
        f"sent {sent[start : at + 16].hex(' ') or 'nothing'} (shown from byte {start})"
    )


def _line(lines: list[str], at: int) -> str:
    return _one_line(lines[at]) if at < len(lines) else "nothing more"


def _one_line(text: str) -> str:
    from cellbench.cli.words import printable

    return printable(text).strip()


def _shortened(message: Message) -> str:
    first, _, rest = message.text.partition("\n")
    return _one_line(first) + (f" ... ({rest.count(chr(10)) + 2} lines)" if rest else "")


# --- On the simulated bench -----------------------------------------------------------------------


def _on_sim(
    recording: Recording, wanted: dict[str, Any], tolerance: float, *, as_json: bool
) -> bool:
    from dataclasses import asdict

    from cellbench.analysis import available
    from cellbench.engine.rerun import rerun, session_of
    from cellbench.protocol import check

    session = session_of(recording, **wanted)
    check(session.program, session.declared(), available()).raise_problems()
    again = rerun(session, recording, tolerance)
    if as_json:
        print_json(asdict(again) | {"agrees": again.agrees})
    else:
        for line in _rerun_lines(again, tolerance):
            typer.echo(line)
    return again.agrees


def _rerun_lines(again: Rerun, tolerance: float) -> Iterator[str]:
    from cellbench.cli.words import printable

    yield f"run {again.run} again on the simulated bench: {again.state}: {again.reason}"
    for title, differences, count in (
        ("steps", again.steps, again.steps_compared),
        ("results", again.results, again.results_compared),
    ):
        if not differences:
            within = f" within {tolerance:.3g}" if title == "results" else ""
            yield f"{title}: all {count} agree{within}"
            continue
        yield f"{title}: {len(differences)} of {count} differ"
        for each in differences[:_DIFFERENCES_SHOWN]:
            yield printable(f"  {each.what}: {_value(each.before)} -> {_value(each.now)}")
        if len(differences) > _DIFFERENCES_SHOWN:
            yield f"  ... and {len(differences) - _DIFFERENCES_SHOWN} more (--json has all)"


def _value(value: str | float | None) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else f"{value:.5g}"
