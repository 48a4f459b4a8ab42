"""What names mean at one place of a program: parameters, loop variables, results, the card."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeAlias

from cellbench.cell import CardError, CellCard
from cellbench.protocol.arithmetic import ResultMissing, evaluate
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.expressions import looks_like_text, parse
from cellbench.protocol.program import Binding
from cellbench.protocol.source import SourceNode
from cellbench.quantities import (
    DIMENSIONS,
    PLAIN,
    TERMINALS,
    Quantity,
    QuantityError,
    Value,
    convert,
    refuse_bare_celsius,
    unit_of,
)

Results: TypeAlias = dict[str, Mapping[str, float]]

_CHANNEL = ("voltage_V", "current_A", "charge_C", "duration_s")
#: What each verb's results are, for those that have any.
RESULTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("rest", "current", "charge", "discharge", "voltage", "hold", "sweep", "cv"), _CHANNEL
    ),
    "eis": ("R_high_ohm", "R_low_ohm", "kramers_kronig_residual_percent"),
    "press": ("stack_pressure_Pa",),
    "temperature": ("temperature_K",),
}

#: Units at the end of a result's name, as analyses write them.
_SUFFIXES = {
    "ohm": "Ohm", "kohm": "kOhm", "ohm_cm2": "Ohm cm2", "V": "V", "mV": "mV", "A": "A",
    "mA": "mA", "uA": "uA", "mA_cm2": "mA/cm2", "A_m2": "A/m2", "C": "coulomb", "Ah": "Ah",
    "mAh": "mAh", "mAh_cm2": "mAh/cm2", "mAh_g": "mAh/g", "Pa": "Pa", "MPa": "MPa", "K": "K",
    "s": "s", "h": "h", "Hz": "Hz", "S_m": "S/m", "mS_cm": "mS/cm", "F": "F", "N": "N",
    "m": "m", "m2": "m2", "percent": "%",
}  # fmt: skip


class Scope:
    """Names in force, for `cellbench.protocol.arithmetic.evaluate`.

    Args:
        card: The cell.
        values: Parameters and loop variables.
        results: Results by the name of their step; while planning they are NaN.
        saved: Names of all steps that save results.
        unknown: Collects, while planning, the names that only the run gives a value; None in a
            run.
    """

    def __init__(
        self,
        card: CellCard,
        values: Mapping[str, Value],
        results: Results,
        saved: Iterable[str] = (),
        unknown: set[str] | None = None,
    ) -> None:
        self.card = card
        self._values = dict(values)
        self._results = results
        self._saved = frozenset(saved)
        self.unknown = unknown

    def inner(self, values: Mapping[str, Value]) -> Scope:
        """Return a scope with more names."""
        both = {**self._values, **values}
        return Scope(self.card, both, self._results, self._saved, self.unknown)

    def isolated(self, values: Mapping[str, Value]) -> Scope:
        """Return a scope with only these names: that of an included protocol."""
        return Scope(self.card, values, self._results, self._saved, self.unknown)

    def lookup(self, name: str, result: str | None) -> Value:
        """Return what ``$name`` or ``$name.result`` stands for; see `Names`."""
        if result is not None:
            return self._noted(f"{name}.{result}", self._result(name, result))
        if name in self._values:
            return self._noted(name, self._values[name])
        if name in self._saved:
            raise KeyError(f'"${name}" is a step\'s results: write "${name}.field"')
        close = difflib.get_close_matches(name, self._values, 1, 0.5)
        known = ", ".join(f"${each}" for each in list(self._values)[:10])
        hint = f'did you mean "${close[0]}"?' if close else f"there are: {known or 'none'}"
        raise KeyError(f'there is no parameter "${name}"; {hint}')

    def _noted(self, name: str, value: Value) -> Value:
        if self.unknown is not None and is_unknown(value):
            self.unknown.add(name)
        return value

    def _result(self, name: str, result: str) -> Value:
        if name not in self._saved:
            known = ", ".join(sorted(self._saved)) or "none"
            raise KeyError(f'no step is saved "as: {name}"; there are: {known}')
        if name not in self._results:
            self._missing(name, result)
        for key, value in self._results[name].items():
            unit = _SUFFIXES.get(key[len(result) + 1 :], "") if key.startswith(result) else None
            if key == result or unit:
                if self.unknown is None and not math.isfinite(value):
                    raise ResultMissing(f"{name}.{result}")
                return _with_unit(value, unit or "", key)
        if not self._results[name]:
            raise KeyError(f'the step that is saved "as: {name}" gives no results')
        fields = ", ".join(self._results[name])
        raise KeyError(f'the results of "{name}" have no "{result}"; they are: {fields}')

    def _missing(self, name: str, result: str) -> NoReturn:
        if self.unknown is None:
            raise ResultMissing(f"{name}.{result}")
        raise KeyError(
            f'"${name}.{result}" is used before the step that is saved "as: {name}", or where that '
            "step may have been left out"
        )

    def nominal_capacity(self) -> Quantity:
        """Return the card's nominal capacity."""
        value = self.card.nominal_capacity_C
        return Quantity(value, DIMENSIONS["charge"].exponents)

    # --- Values at a place in the file ----------------------------------------------------------

    def value(self, source: SourceNode) -> Value:
        """Evaluate the text (or list of texts) at a place.

        Raises:
            ProtocolError: It cannot be read or evaluated.
            ResultMissing: It uses a result that does not exist yet.
        """
        text = text_of(source)
        try:
            return evaluate(parse(text), self)
        except QuantityError as error:
            place = source.problem(str(error), column=error.column, length=error.length)
            raise ProtocolError([place]) from error
        except CardError as error:
            source.fail(str(error))

    def quantity(self, source: SourceNode) -> Quantity:
        """Evaluate to one quantity. Raises like `value`."""
        value = self.value(source)
        if not isinstance(value, Quantity):
            source.fail(f'"{text_of(source)}" is not one value')
        return value

    def quantities(self, source: SourceNode) -> tuple[Quantity, ...]:
        """Evaluate to one or several quantities. Raises like `value`."""
        value = self.value(source)
        if isinstance(value, Quantity):
            return (value,)
        if not isinstance(value, tuple):
            source.fail(f'"{text_of(source)}" is neither a value nor a list of values')
        return value

    def si(self, source: SourceNode, *dimensions: str) -> float:
        """Evaluate to SI units of one of the dimensions. Raises like `value`."""
        try:
            if "temperature" in dimensions:
                refuse_bare_celsius(text_of(source))
            return convert(self.quantity(source), *dimensions)
        except QuantityError as error:
            source.fail(str(error))

    def positive_si(self, source: SourceNode, *dimensions: str) -> float:
        """Like `si`, and above zero."""
        value = self.si(source, *dimensions)
        if value <= 0:
            source.fail(f'"{text_of(source)}" is not above zero')
        return value

    def voltage_V(self, source: SourceNode) -> float:
        """Evaluate to volts at the terminals. Raises like `value`."""
        return self._by_card(source, self.quantity(source), "voltage")

    def current_A(self, source: SourceNode) -> float:
        """Evaluate to amperes. Raises like `value`."""
        return self._by_card(source, self.quantity(source), "current")

    def charge_C(self, source: SourceNode) -> float:
        """Evaluate to coulombs. Raises like `value`."""
        return self._by_card(source, self.quantity(source), "charge")

    def voltage_V_of(self, source: SourceNode, quantity: Quantity) -> float:
        """Convert a quantity that was read at a place to volts. Raises like `value`."""
        return self._by_card(source, quantity, "voltage")

    def count(self, source: SourceNode, most: int) -> int:
        """Evaluate to a whole number from 1 to ``most``. Raises like `value`."""
        quantity = self.quantity(source)
        whole = quantity.exponents == PLAIN and quantity.value == int(quantity.value)
        if not whole or not 1 <= quantity.value <= most:
            source.fail(f'"{text_of(source)}" is not a whole number from 1 to {most}')
        return int(quantity.value)

    def words(self, text: str) -> str:
        """Return words: the text itself, or those that a ``$name`` stands for."""
        value = self._values.get(text.strip()[1:]) if text.strip().startswith("$") else None
        return value if isinstance(value, str) else text

    def stands_for_words(self, text: str) -> bool:
        """Whether a text is a ``$name`` that stands for words, like "open circuit"."""
        return self.words(text) != text

    def charge_C_of(self, source: SourceNode, quantity: Quantity) -> float:
        """Convert a quantity that was read at a place to coulombs. Raises like `value`."""
        return self._by_card(source, quantity, "charge")

    def _by_card(self, source: SourceNode, quantity: Quantity, what: str) -> float:
        conversions = {
            "voltage": self.card.voltage_V,
            "current": self.card.current_A,
            "charge": self.card.charge_C,
        }
        try:
            return conversions[what](quantity)
        except (CardError, QuantityError) as error:
            source.fail(str(error))


def text_of(source: SourceNode) -> str:
    """Return the text at a place; a list of texts as one, joined by commas."""
    if isinstance(source.content, tuple):
        return ", ".join(text_of(each) for each in source.content)
    if isinstance(source.content, str):
        return source.content
    return source.fail("a value is needed here")


def _with_unit(value: float, unit: str, key: str) -> Quantity:
    if not unit:
        suffix = next((u for s, u in _SUFFIXES.items() if key.endswith(f"_{s}")), "")
        unit = suffix
    if not unit:
        return Quantity(value, PLAIN)
    factor, exponents = unit_of(unit)
    reference = TERMINALS if key == "voltage_V" else ""
    return Quantity(value * factor, exponents, reference, unit)


def is_unknown(value: Value) -> bool:
    """Whether only the run will tell a value."""
    parts = value if isinstance(value, tuple) else (value,)
    return any(isinstance(each, Quantity) and math.isnan(each.value) for each in parts)


def evaluate_bindings(bindings: Mapping[str, Binding], inside: Scope, around: Scope) -> Scope:
    """Return a scope in which parameters have their values; they may use those given before.

    Raises:
        ProtocolError: One cannot be evaluated.
    """
    for name, binding in bindings.items():
        scope = around if binding.outer else inside
        inside = inside.inner({name: parameter_value(binding.source, scope)})
    return inside


def parameter_value(source: SourceNode, scope: Scope) -> Value:
    """Return a parameter's value: of an expression, or words as they stand."""
    if isinstance(source.content, str) and looks_like_text(source.content):
        return source.content
    return scope.value(source)
