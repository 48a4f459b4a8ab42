"""A bench file with places: each is a bench with one cell; what is wrong is told at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellbench.bench import BenchFile, declared, parse_bench
from cellbench.engine.session import prepare
from cellbench.errors import InputError
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol import ProtocolError
from cellbench.protocol.source import document_of, load

FILE = """\
bench: room 2
instruments:
  n1: {driver: palmsens, port: COM1}
  n2: {driver: palmsens, port: COM2, on trouble: {retries: 1}}
  eis: {driver: palmsens, port: COM3, f_max: 1 MHz}
  mux:
    driver: scpi_switch
    port: COM4
    positions: {A1: "101,102", A2: "103,104"}
  oven: {driver: eurotherm, port: COM5}
fixture: {die: 10 mm, kind: spring, at most: 5 kN}
accepts unbounded: [n2, eis]
cells:
  A1: {card: LYC_PMMA, cycling: n1, impedance: eis, changeover: mux, chamber: oven}
  A2: {channel: n2, chamber: oven, fixture: {die: 13 mm, at most: 1 kN}}
"""


def parsed(text: str = FILE) -> BenchFile:
    return parse_bench(load(document_of(text, "room2.yaml")))


def test_a_place_is_a_bench_with_one_cell() -> None:
    first, second = parsed().of_place("A1"), parsed().of_place("A2")
    assert [*first.instruments] == ["n1", "eis", "mux", "oven"]
    assert (first.place, first.cells, [*first.wiring]) == ("A1", {}, ["A1"])
    assert first.fixture == parsed().fixture
    assert first.accepts_unbounded == ("eis",)
    assert [*second.instruments] == ["n2", "oven"]
    assert second.fixture is not None
    assert second.fixture.die == "13 mm"
    bench = declared(first, simulated=False)
    assert isinstance(bench.channel, WiredChannel)
    assert bench.switch is not None
    assert bench.place == "A1"
    assert parsed().shared == {"oven"}


def test_its_text_reads_as_itself() -> None:
    for place in ("A1", "A2"):
        view = parsed().of_place(place)
        assert parsed(view.text()) == view


def test_without_places_a_file_means_what_it_did() -> None:
    alone = parsed("bench: b\ninstruments:\n  p: {driver: palmsens, port: COM1}\n")
    assert alone.of_place("") is alone
    with pytest.raises(InputError, match='no place "A1"; there are: none, it has one cell'):
        alone.of_place("A1")


@pytest.mark.parametrize(
    ("before", "after", "line", "told"),
    [
        ("channel: n2", "channel: n3", 15, 'there is no instrument "n3"; there are: n1, n2, eis'),
        ("channel: n2", "channel: n1", 15, '"n1" is the channel of A1 already: a channel has one'),
        ("channel: n2", "channel: eis", 15, '"eis" is the channel of A2, and takes spectra of'),
        ("channel: n2", "channel: oven", 15, '"oven" is a chamber; channel has to be a channel'),
        ("changeover: mux", "changeover: oven", 14, '"oven" is a chamber; changeover has to be a'),
        ("cycling: n1", "channel: n1", 14, "a cell is on one channel, or wired to two"),
        ("changeover: mux, ", "", 14, 'needs "cycling", "impedance" and "changeover", all three'),
        ("channel: n2, ", "", 15, 'has no "channel" (or "cycling", "impedance" and'),
        ("  A2:", "  A2,A3:", 15, '"A2,A3" is no name of a place'),
        ("chamber: oven, fix", "chmber: oven, fix", 15, 'did you mean "chamber"?'),
        ("channel: n2,", "channel: n2, patience: 1 h,", 15, "no changeover that could take long"),
    ],
)
def test_what_is_wrong_with_a_place_is_told_at_its_line(
    before: str, after: str, line: int, told: str
) -> None:
    assert before in FILE
    with pytest.raises(ProtocolError) as caught:
        parsed(FILE.replace(before, after))
    (problem,) = caught.value.problems
    assert told in problem.message
    assert problem.line == line


def test_a_place_has_to_be_named(tmp_path: Path) -> None:
    bench = tmp_path / "room2.yaml"
    bench.write_text(FILE, encoding="utf-8")
    with pytest.raises(InputError, match="many places: name one with --cell; there are: A1, A2"):
        prepare("ccd", bench=bench)
    with pytest.raises(InputError, match='no place "LYC_PMMA"; there are: A1, A2'):
        prepare("ccd", cell="LYC_PMMA", bench=bench)
    assert prepare("ccd", cell="A1=LYC", bench=bench).card.cell == "LYC"
