"""What is suspicious in a cell card: sizes and pressures that no pellet cell has, mixed-up kinds.

A thickness of 354 mm instead of um passes every check of units, and makes each conductivity wrong
by a factor of a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cellbench.cell.card import CellCard
from cellbench.quantities import format_quantity, parse

_THICKNESS = ("1 um", "20 mm")
_DIAMETER = ("1 mm", "200 mm")
_FABRICATION = ("0.1 MPa", "5 GPa")


class Doubt(NamedTuple):
    """Something that is hardly meant: where in the card, what, and what to do."""

    path: tuple[str, ...]
    message: str
    cure: str


def doubts(card: CellCard) -> Iterator[Doubt]:
    """Go through what a card says."""
    yield from _sizes(card)
    yield from _kind(card)
    yield from _window(card)


def _sizes(card: CellCard) -> Iterator[Doubt]:
    electrolyte = card.electrolyte
    diameters = {
        ("working", "diameter"): card.working.diameter_m,
        ("counter", "diameter"): card.counter.diameter_m,
        ("electrolyte", "diameter"): electrolyte.diameter_m,
        ("stack", "diameter"): card.stack.diameter_m if card.stack else None,
        ("die",): card.die_m,
    }
    thickness, pressure = ("electrolyte", "thickness"), ("electrolyte", "fabrication pressure")
    yield from _outside(thickness, electrolyte.thickness_m, _THICKNESS, "length")
    for path, diameter_m in diameters.items():
        yield from _outside(path, diameter_m, _DIAMETER, "length")
    yield from _outside(pressure, electrolyte.fabrication_pressure_Pa, _FABRICATION, "pressure")


def _outside(
    path: tuple[str, ...], value: float | None, span: tuple[str, str], dimension: str
) -> Iterator[Doubt]:
    low, high = (parse(each, dimension) for each in span)
    if value is not None and not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
        name = " ".join(path).removeprefix("electrolyte ")
        message = f"a {name} of {format_quantity(value, dimension)} is not plausible"
        yield Doubt(path, message, f"Is the unit right? Usual are {span[0]} to {span[1]}.")


def _kind(card: CellCard) -> Iterator[Doubt]:
    material = card.working.material or card.working.active
    if card.kind == "full" and material == card.counter.material:
        yield Doubt(
            ("kind",),
            f"both electrodes are {material}: this is no full cell",
            'Write "kind: symmetric" or "kind: blocking", or name the electrodes apart.',
        )


def _window(card: CellCard) -> Iterator[Doubt]:
    if card.limits.potential is not None and any(
        each is not None and not each.reference for each in card.limits.potential
    ):
        yield Doubt(
            ("limits", "potential"),
            "a potential has a reference, and this has none",
            'Write "voltage: ..." for volts at the terminals, or "potential: ... vs Li+/Li".',
        )
