"""A campaign file becomes turns: every cell at every protocol, each once, in its order."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cellbench.campaign.file import CampaignFile
from cellbench.campaign.outline import Turn, turns_of

CELLS = [f"A{number}" for number in range(1, 7)]
FILES = st.builds(
    lambda **written: CampaignFile.model_validate(
        {"cellbench campaign": "1", "name": "n"} | written
    ),
    cells=st.lists(st.sampled_from(CELLS), min_size=1, unique=True),
    runs=st.lists(st.sampled_from([{"protocol": "ccd"}, {"protocol": "gitt"}]), min_size=1),
    replicates=st.none() | st.integers(1, 4),
    order=st.sampled_from(["by cell", "by protocol"]),
)
PLACES = st.sampled_from([(), CELLS])


def once(turns: tuple[Turn, ...]) -> set[tuple[Any, ...]]:
    found = [(turn.line, turn.cell, turn.replicate) for turn in turns]
    assert len(found) == len(set(found))
    return set(found)


@given(FILES, PLACES)
def test_every_cell_has_its_turn_at_every_protocol_once(
    file: CampaignFile, places: tuple[str, ...]
) -> None:
    numbers = range(1, (file.replicates or 1) + 1)
    assert once(turns_of(file, places)) == {
        (line, cell, number if file.replicates else index)
        for line in range(len(file.runs))
        for index, cell in enumerate(file.cells, start=1)
        for number in numbers
    }


@given(FILES, PLACES)
def test_a_cell_goes_through_the_protocols_in_their_order(
    file: CampaignFile, places: tuple[str, ...]
) -> None:
    lines: dict[tuple[str, int], list[int]] = {}
    for turn in turns_of(file, places):
        lines.setdefault((turn.cell, turn.replicate), []).append(turn.line)
    assert all(each == list(range(len(file.runs))) for each in lines.values())


@given(FILES, PLACES)
def test_one_cell_is_through_before_the_next_or_one_protocol_is(
    file: CampaignFile, places: tuple[str, ...]
) -> None:
    turns = turns_of(file, places)
    if file.order == "by cell":
        series = [key for key, _ in groupby((each.cell, each.replicate) for each in turns)]
        assert len(series) == len(set(series))
        assert {turn.stage for turn in turns} == {0}
    else:
        assert all(a.line <= b.line for a, b in pairwise(turns))
        assert all(turn.stage == turn.line for turn in turns)


@given(FILES)
def test_a_replicate_is_another_cell_where_no_place_holds_one(file: CampaignFile) -> None:
    alone = {turn.specimen for turn in turns_of(file, ())}
    assert len(alone) == len(file.cells) * (file.replicates or 1)
    assert {turn.specimen for turn in turns_of(file, CELLS)} == set(file.cells)
    assert {turn.place for turn in turns_of(file, ())} == {""}
