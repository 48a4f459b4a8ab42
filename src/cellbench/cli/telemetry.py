"""``cellbench telemetry``: whether people and the broker can be told, and commands from afar."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told
from cellbench.errors import CellbenchError, InputError

if TYPE_CHECKING:
    from cellbench.telemetry import Telemetry

app = typer.Typer(help="Who is told of a run: try it, or command a run.", no_args_is_help=True)


@app.command("test")
def try_it(
    telemetry: options.TelemetryPath = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Send one message through the broker and through every channel of the alerts.

    Exit codes: 0 all were taken, 1 at least one was not, 2 the telemetry file is wrong.
    """
    with told(as_json=as_json):
        outcomes = _run(_try_all(_read(telemetry, store)))
    failed = {name: failure for name, failure in outcomes.items() if failure is not None}
    if as_json:
        print_json({"channels": outcomes, "all": not failed})
    else:
        for name, failure in outcomes.items():
            typer.echo(f"{name}: {'sent' if failure is None else f'NOT SENT: {failure}'}")
    raise typer.Exit(ExitCode.STOPPED if failed else ExitCode.FORESEEN_END)


@app.command("command")
def command(
    bench: Annotated[str, typer.Argument(help="The bench's name, as in its bench file.")],
    run: Annotated[str, typer.Argument(help="The run's id.")],
    name: Annotated[
        str, typer.Argument(metavar="COMMAND", help="pause, continue, abort, skip, stop, answer.")
    ],
    operator: Annotated[str, typer.Option("--operator", help="Who commands it.")],
    arguments: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME=VALUE", help="An argument of it; repeatable."),
    ] = None,
    wait: Annotated[str, typer.Option("--wait", help="For the answer.")] = "20 s",
    telemetry: options.TelemetryPath = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Command a run through the broker, and wait for its answer.

    The telemetry file here names the broker, and an operators file with the operator's own secret.
    Exit codes: 0 it was done, 1 it was refused or nobody answered, 2 wrong input.
    """
    with told(as_json=as_json):
        from cellbench.quantities import parse

        settings = _read(telemetry, store)
        given = dict(_pair(each) for each in arguments or [])
        wait_s = parse(wait, "time")
        answer = _run(_command(settings, bench, run, name, operator, given, wait_s))
    if as_json:
        print_json(answer)
    else:
        typer.echo(("" if answer["accepted"] else "refused: ") + answer["answer"])
    raise typer.Exit(ExitCode.FORESEEN_END if answer["accepted"] else ExitCode.STOPPED)


def _read(chosen: Path | None, store: Path | None) -> Telemetry:
    from cellbench.cli.telling import USUAL_NAME
    from cellbench.store import data_directory
    from cellbench.telemetry import read_telemetry

    path = chosen or (store or data_directory()) / USUAL_NAME
    if not path.is_file():
        raise InputError(f"there is no telemetry file {path}: write one, or name it")
    return read_telemetry(path)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f'--with "{text}": write NAME=VALUE')
    return name.strip(), value.strip()


def _run(coroutine: Any) -> Any:
    # The MQTT client watches sockets, which Windows' usual loop cannot.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(coroutine)


async def _try_all(telemetry: Telemetry) -> dict[str, str | None]:
    """Try all ways; returns by name why one does not work, None if it does."""
    outcomes: dict[str, str | None] = {}
    if telemetry.mqtt is not None:
        from cellbench.telemetry import topics
        from cellbench.telemetry.broker import Broker, MqttError

        broker = Broker(telemetry, f"cellbench-test-{time.time_ns()}", _nothing)
        topic = f"{topics.bench_topic(telemetry.site, 'test')}/test"
        outcomes[f"{broker.name}, {topic}"] = None
        try:
            async with broker.connected() as client:
                await client.publish(topic, topics.payload({"text": _TEXT}), qos=1)
        except MqttError as error:
            outcomes[f"{broker.name}, {topic}"] = str(error)
    if telemetry.channels:
        from cellbench.telemetry.delivery import Delivery

        for name, url in telemetry.channels.items():
            delivery = Delivery(name, url, _nothing)
            outcomes[name] = await delivery.send("cellbench: a test", _TEXT, urgent=False)
    if not outcomes:
        raise InputError('the telemetry file names neither "mqtt" nor "alerts"')
    return outcomes


_TEXT = "A test by cellbench telemetry test: alerts of runs arrive here."


def _nothing(_kind: str, _text: str, /, **_data: Any) -> None:
    """Nobody is there to be told: the command tells the outcome itself."""


async def _command(
    telemetry: Telemetry,
    bench: str,
    run: str,
    name: str,
    operator: str,
    arguments: dict[str, str],
    wait_s: float,
) -> dict[str, Any]:
    from cellbench.telemetry import COMMANDS, topics
    from cellbench.telemetry.broker import Broker, MqttError
    from cellbench.telemetry.commands import sign

    if telemetry.mqtt is None or operator not in telemetry.operators:
        raise InputError(
            f'the telemetry file names no broker, or no operators file with "{operator}" in it'
        )
    if name not in COMMANDS:
        raise InputError(f'there is no command "{name}"; there are: {", ".join(COMMANDS)}')
    topic = topics.run_topic(topics.bench_topic(telemetry.site, bench), run)
    counter = time.time_ns()  # rises from one command to the next, wherever they are given
    message = sign(
        telemetry.operators[operator].secret,
        operator,
        topic=topic,
        counter=counter,
        command=name,
        arguments=arguments,
    )
    broker = Broker(telemetry, f"cellbench-command-{counter}", _nothing)
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(broker.connected())
            await client.subscribe(f"{topic}/answer", qos=1)
            await client.publish(f"{topic}/command", message, qos=1)
            async with asyncio.timeout(wait_s):
                async for answer in client.messages:
                    content: dict[str, Any] = json.loads(bytes(answer.payload))
                    if content.get("counter") == counter:
                        return content
    except MqttError as error:
        raise CellbenchError(f"{broker.name}: {error}") from error
    except TimeoutError:
        text = f"no answer in {wait_s:g} s: whether it was done is unknown"
        return {"accepted": False, "answer": text}
    raise AssertionError  # messages never end by themselves
