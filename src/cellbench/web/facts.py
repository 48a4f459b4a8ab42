"""What a run's documents say of it, as far as its curves need it: roles, sizes, instruments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cellbench.analysis.stored import channel_names, environment
from cellbench.cell import CellCard
from cellbench.errors import CellbenchError
from cellbench.protocol.loading import parse_card
from cellbench.store import RunReader
from cellbench.web.buckets import Buckets, drawn
from cellbench.web.traces import Cut

#: What curves are asked for by, and what of the samples it is.
QUANTITIES = {
    "voltage_V": "voltage_V",
    "current_A": "current_A",
    "stack_pressure_Pa": "force_N",
    "temperature_K": "temperature_K",
}


@dataclass(frozen=True)
class Facts:
    """What does not change of a run.

    Attributes:
        channels: The instruments that measure the cell.
        gauge, chamber: Those that tell stack pressure and temperature; empty for none.
        stack_area_m2: None where no card was kept.
        identities: Who answered, by the instrument's name.
    """

    channels: Sequence[str]
    gauge: str
    chamber: str
    stack_area_m2: float | None
    area_m2: float | None
    active_mass_kg: float | None
    identities: dict[str, dict[str, Any]]
    analyses: Sequence[str]

    def curves(self, cut: Cut, quantities: Sequence[str]) -> dict[str, Any] | None:
        """What is drawn of a source, None where it measures nothing of what is asked for."""
        wanted = [name for name in quantities if self._is_of(cut.source, name)]
        wanted = [name for name in wanted if cut.buckets.measured(QUANTITIES[name])]
        if not wanted:
            return None
        points = drawn(
            self._scaled(cut.buckets, wanted), cut.gaps, [QUANTITIES[name] for name in wanted]
        )
        columns = {"time_s": points["time_s"]}
        columns |= {name: points[QUANTITIES[name]] for name in wanted}
        return {
            "source": cut.source,
            "columns": columns,
            "thinned": bool((cut.buckets.counts > 1).any()),
            "rows_in_range": cut.rows_in_range,
        }

    def _is_of(self, source: str, quantity: str) -> bool:
        match quantity:
            case "voltage_V" | "current_A":
                return source in self.channels
            case "stack_pressure_Pa":
                return source == self.gauge and self.stack_area_m2 is not None
            case "temperature_K":
                return source == self.chamber
        return True

    def _scaled(self, buckets: Buckets, wanted: Sequence[str]) -> Buckets:
        if "stack_pressure_Pa" not in wanted or self.stack_area_m2 is None:
            return buckets
        return buckets.scaled("force_N", 1 / self.stack_area_m2)


def facts_of(reader: RunReader) -> Facts:
    """Read them from a run's file.

    Raises:
        StoreError: The run was lost before it began.
    """
    surroundings = environment(reader)
    roles = surroundings.get("roles", {})
    card: CellCard | None = None
    # A card of another version is none; what does not need it is there.
    with suppress(CellbenchError):
        card = parse_card(reader.documents["cell"], "the cell card")
    return Facts(
        channels=channel_names(surroundings),
        gauge=roles.get("gauge") or roles.get("press", ""),
        chamber=roles.get("chamber", ""),
        stack_area_m2=None if card is None else card.stack_area_m2,
        area_m2=None if card is None else card.area_m2,
        active_mass_kg=None if card is None else card.active_mass_kg,
        identities=surroundings.get("instruments", {}),
        analyses=surroundings.get("analyses", []),
    )
