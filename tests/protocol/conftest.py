"""A bench to plan with, and protocols written in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    ChannelCapabilities,
    GaugeCapabilities,
    ImpedanceBand,
    PressCapabilities,
    ReactionTime,
)
from cellbench.protocol import Program, Walk, load_protocol
from cellbench.protocol.program import AnyStep, PassEnded

C = TypeVar("C")


@dataclass
class Instrument(Generic[C]):
    capabilities: C
    name: str = "instrument"


@dataclass
class Fixture:
    die: str = "10 mm"
    at_most: str = "5 kN"
    kind: str = "servo"


CHANNEL = ChannelCapabilities(
    model="Potentiostat",
    voltage_min_V=-6.0,
    voltage_max_V=6.0,
    current_max_A=0.1,
    current_min_A=1e-9,
    interval_min_s=1e-3,
    techniques=frozenset(("rest", "constant current", "constant voltage", "sweep", "impedance")),
    impedance=ImpedanceBand(1e-3, 1e6),
    on_device=frozenset(("duration", "voltage", "current")),
    bounded_without_host=True,
    reaction=ReactionTime(1.0, 0.02, 1.0),
    voltage_noise_V=1e-4,
)
PRESS = PressCapabilities("Press", 5.0, 5000.0, 500.0, 30.0, ReactionTime(0.5, 0.02, 0.2))
GAUGE = GaugeCapabilities("Load cell", 5000.0, 0.5, 0.02)
CHAMBER = ChamberCapabilities("Chamber", 253.15, 453.15, 0.1)


@dataclass
class Bench:
    channel: Instrument[ChannelCapabilities] | None
    press: Instrument[PressCapabilities] | None
    gauge: Instrument[GaugeCapabilities] | None
    chamber: Instrument[ChamberCapabilities] | None
    fixture: Fixture | None
    simulated: bool = False
    accepts_unbounded: frozenset[str] = frozenset()


@pytest.fixture
def bench() -> Bench:
    return Bench(
        Instrument(CHANNEL), Instrument(PRESS), Instrument(GAUGE), Instrument(CHAMBER), Fixture()
    )


@pytest.fixture
def slow_bench(bench: Bench) -> Bench:
    able = replace(CHANNEL, bounded_without_host=False, on_device=frozenset(), interval_min_s=1.0)
    accepted = frozenset({"instrument"})
    return replace(bench, channel=Instrument(able), accepts_unbounded=accepted)


HEAD = "name: Test\ncell: LYC\nsteps:\n"


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """Load a protocol from text; lines that do not begin with ``name:`` are its steps."""

    def load(text: str, **settings: str) -> Program:
        path = tmp_path / "test.yaml"
        path.write_text(text if text.startswith("name:") else HEAD + text, encoding="utf-8")
        return load_protocol(path, None, settings)

    return load


@pytest.fixture
def steps(program: Callable[..., Program]) -> Callable[..., list[AnyStep]]:
    """The steps that a protocol's text expands to."""

    def expand(text: str, **settings: str) -> list[AnyStep]:
        walk: Iterator[AnyStep | PassEnded] = Walk(program(text, **settings))
        return [item for item in walk if not isinstance(item, PassEnded)]

    return expand
