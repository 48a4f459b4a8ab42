"""Cell cards: areas, currents, potentials and forces, and what a card cannot settle."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cellbench import library
from cellbench.cell import CardError, CellCard
from cellbench.errors import InputError
from cellbench.protocol import load_card
from cellbench.quantities import QuantityError, parse_quantity

FULL: dict[str, Any] = {
    "cell": "NCM85-017",
    "layout": "NCM85 | Li2In1/3Sc1/3Cl4 | Li6.7Si0.7Sb0.3S5I | In/InLi",
    "working": {"active": "NCM85", "loading": "6.22 mg/cm2", "1C": "180 mA/g", "diameter": "10 mm"},
    "counter": {"material": "In/InLi", "potential": "0.62 V vs Li+/Li"},
    "electrolyte": {"thickness": "0.9 mm", "diameter": "10 mm", "fabrication pressure": "250 MPa"},
    "limits": {
        "potential": "2.5 V to 4.9 V vs Li+/Li",
        "current": "5 mA/cm2",
        "stack pressure": "300 MPa",
        "temperature": "10 degC to 60 degC",
    },
}
SYMMETRIC: dict[str, Any] = {
    "cell": "Li-Li",
    "layout": "Li | LYC | Li",
    "working": {"material": "Li", "diameter": "9 mm"},
    "counter": {"material": "Li"},
    "electrolyte": {"thickness": "0.354 mm", "diameter": "10 mm"},
    "limits": {"voltage": "-2 V to 2 V", "current": "10 mA/cm2"},
}


def card(base: dict[str, Any], **changes: Any) -> CellCard:
    return CellCard.model_validate({**base, **changes})


def amperes(of: CellCard, text: str) -> float:
    return of.current_A(parse_quantity(text))


def volts(of: CellCard, text: str) -> float:
    return of.voltage_V(parse_quantity(text))


def test_current_densities_refer_to_the_working_electrode() -> None:
    assert amperes(card(SYMMETRIC), "1 mA/cm2") == pytest.approx(0.636173e-3, rel=1e-5)
    assert amperes(card(SYMMETRIC), "2 mA") == pytest.approx(2e-3)


def test_stack_pressure_refers_to_the_electrolyte_unless_the_card_names_another_area() -> None:
    assert card(SYMMETRIC).force_N(5e6) == pytest.approx(392.7, rel=1e-4)
    foil = card(SYMMETRIC, stack={"diameter": "9 mm"})
    assert foil.pressure_Pa(392.7) == pytest.approx(6.173e6, rel=1e-3)


def test_three_tonnes_on_ten_millimetres_are_375_megapascals() -> None:
    assert card(FULL).pressure_Pa(29419.95) == pytest.approx(374.6e6, rel=1e-3)


def test_a_c_rate_needs_loading_and_convention() -> None:
    ncm = card(FULL)
    area_cm2 = math.pi / 4
    assert amperes(ncm, "C/8") == pytest.approx(6.22e-3 * area_cm2 * 0.180 / 8, rel=1e-6)
    assert ncm.nominal_capacity_C == pytest.approx(6.22e-3 * area_cm2 * 0.180 * 3600, rel=1e-6)
    assert amperes(card(FULL, **{"nominal capacity": "2 mAh"}), "C/2") == pytest.approx(1e-3)
    with pytest.raises(CardError, match="does not say what 1C is"):
        amperes(card(FULL, working={"active": "NCM85", "diameter": "10 mm"}), "C/8")


def test_a_c_rate_of_a_symmetric_cell_is_refused() -> None:
    with pytest.raises(CardError, match="symmetric cell without a capacity"):
        amperes(card(SYMMETRIC), "C/10")


def test_a_potential_against_lithium_is_less_at_the_terminals_of_an_indium_cell() -> None:
    assert volts(card(FULL), "4.8 V vs Li+/Li") == pytest.approx(4.18)
    assert volts(card(FULL), "4.18 V at the terminals") == pytest.approx(4.18)
    assert card(FULL).voltage_window_V == pytest.approx((1.88, 4.28))


def test_a_voltage_without_reference_is_refused_where_it_matters() -> None:
    with pytest.raises(CardError, match=r"4\.8 V at the terminals, or 4\.18 V"):
        volts(card(FULL), "4.8 V")
    assert volts(card(SYMMETRIC), "0 V") == 0.0
    assert volts(card(SYMMETRIC), "-0.5 V") == -0.5


def test_a_blocking_cell_knows_no_potential_against_lithium() -> None:
    steel = load_card(None, "LYC_blocking")[0]
    assert steel.kind == "blocking"
    with pytest.raises(CardError, match="no potential on the card"):
        volts(steel, "1 V vs Li+/Li")


def test_an_areal_capacity_is_a_charge() -> None:
    charge = card(SYMMETRIC).charge_C(parse_quantity("1 mAh/cm2"))
    assert charge == pytest.approx(3.6 * 0.636173, rel=1e-5)
    assert card(FULL).charge_C(parse_quantity("180 mAh/g")) == pytest.approx(
        card(FULL).nominal_capacity_C
    )


def test_a_resistance_is_no_current() -> None:
    with pytest.raises(QuantityError, match="resistance"):
        amperes(card(SYMMETRIC), "5 Ohm")


def test_kinds_follow_from_the_electrodes() -> None:
    assert card(SYMMETRIC).kind == "symmetric"
    assert card(FULL).kind == "full"
    half = card(SYMMETRIC, working={"material": "Cu", "diameter": "10 mm"})
    assert half.kind == "half"


@pytest.mark.parametrize("name", library.card_names())
def test_each_shipped_card_settles_everything_and_names_its_simulated_cell(name: str) -> None:
    shipped, text = load_card(None, name)
    assert shipped.simulate == shipped.cell == name
    assert 0.05e-3 < shipped.electrolyte.thickness_m < 2e-3
    assert shipped.electrolyte_area_m2 == pytest.approx(0.785e-4, rel=1e-3)
    assert shipped.current_max_A == pytest.approx(7.854e-3, rel=1e-3)
    assert text.startswith("#")


def test_the_eight_cards_of_the_simulated_bench_are_shipped() -> None:
    materials = ["LYC", "LYC_PMMA", "Li2ZrCl6", "Li2ZrCl5.5F0.5"]
    wanted = {*materials, *(f"{each}_blocking" for each in materials)}
    assert wanted <= set(library.card_names())


@pytest.mark.parametrize("name", ["LYK", "LYC_PMA"])
def test_a_mistyped_card_is_corrected(name: str) -> None:
    with pytest.raises(InputError, match="did you mean"):
        library.find_card(name)
