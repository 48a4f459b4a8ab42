"""Reading YAML: places are kept, and no text makes it fail in an unforeseen way."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cellbench import library
from cellbench.errors import InputError
from cellbench.protocol import ProtocolError, Walk, load_protocol
from cellbench.protocol.errors import render
from cellbench.protocol.source import document_of, load


def test_all_scalars_stay_text() -> None:
    node = load(document_of("a: 1\nb: yes\nc: 0x10\nd: 1e3\ne: '2'\nf: 12:30\n", "t.yaml"))
    assert node.plain() == {
        "a": "1", "b": "yes", "c": "0x10", "d": "1e3", "e": "2", "f": "12:30"
    }  # fmt: skip


def test_places_are_those_of_the_file() -> None:
    node = load(document_of('a: {b: [1, "two", $x]}\n', "t.yaml"))
    two = node.at(("a", "b", 1))
    assert (two.line, two.column, two.content) == (1, 11, "two")
    assert node.at(("a", "nothing", 3)).content == node.at(("a",)).content


def test_a_part_of_a_quoted_text_has_its_own_place() -> None:
    node = load(document_of('until: "voltage >= 1 V"\n', "t.yaml")).at(("until",))
    part = node.part(11, 15)
    assert (part.content, part.column) == ("1 V", 19)


def test_bytes_of_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\ncell: LYC\r\nsteps:\r\n  - rest: 1 s\r\n")
    assert [item.path for item in Walk(load_protocol(path))] == ["rest"]


@given(st.text(alphabet="ab:{}[]&*!|>'\"-#%@`,?~<\n\t $0", max_size=60) | st.text(max_size=60))
@example("? ")
@example("- - - -\n-")
@example("<<: {a: b}")
@example("!")
@example("&a")
@example("[[]: x]")
@example("%TAG ! tag:x,2000:\n---\n!a b")
def test_no_text_fails_in_an_unforeseen_way(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        load(document_of(text, "t.yaml"))


def complaint(path: Path) -> str:
    """What is wrong with a protocol; empty if nothing."""
    try:
        walk = Walk(load_protocol(path), planning=True)
        items = list(walk)
    except InputError as error:
        return str(error)
    return "" if items else render(walk.problems)


CCD = library.find_protocol("ccd").read_text(encoding="utf-8")


@pytest.mark.long
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, len(CCD)),
    st.integers(0, 12),
    st.sampled_from(["", " ", ":", "{", "}", "- ", "$", "0", "mA", "\n", "\n  ", '"', "for each"]),
)
def test_a_damaged_protocol_is_refused_or_read_but_never_crashes(
    tmp_path: Path, start: int, length: int, instead: str
) -> None:
    path = tmp_path / "damaged.yaml"
    path.write_text(CCD[:start] + instead + CCD[start + length :], encoding="utf-8")
    assert len(complaint(path).splitlines()) <= 24


@pytest.mark.parametrize("name", [*library.protocol_names()])
def test_shipped_files_are_plain_text_of_modest_width(name: str) -> None:
    text = library.find_protocol(name).read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 120
    assert text.isascii()
