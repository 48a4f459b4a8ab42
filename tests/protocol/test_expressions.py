"""Expressions: units, names, lists, bounds, and that nothing hostile gets anywhere."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellbench.protocol.arithmetic import ResultMissing, evaluate
from cellbench.protocol.expressions import parse
from cellbench.quantities import Quantity, QuantityError, Value, parse_quantities, parse_quantity


class Names:
    """A few names to refer to."""

    values: dict[str, Value] = {  # noqa: RUF012 - never changed
        "j": parse_quantity("0.5 mA/cm2"),
        "potential": parse_quantity("4.8 V vs Li+/Li"),
        "T": parse_quantity("20 degC"),
        "n": Quantity(3.0),
        "list": parse_quantities("1, 2 V"),
        "word": "LYC",
    }

    def lookup(self, name: str, result: str | None) -> Value:
        if result is not None:
            raise ResultMissing(f"{name}.{result}")
        if name not in self.values:
            raise KeyError(f"there is no ${name}")
        return self.values[name]

    def nominal_capacity(self) -> Quantity:
        return parse_quantity("2 mAh")


def value(text: str) -> Value:
    return evaluate(parse(text), Names())


def shown(text: str) -> str:
    found = value(text)
    return ", ".join(str(each) for each in found) if isinstance(found, tuple) else str(found)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("-$j", "-0.5 mA/cm2"),
        ("$j * 2", "1 mA/cm2"),
        ("2 * C/10", "0.2C"),
        ("$potential + 0.1 V", "4.9 V vs Li+/Li"),
        ("$potential - $potential", "0 V"),
        ("-4.8 V vs Li+/Li", "-4.8 V vs Li+/Li"),
        ("$T + 5 K", "25 degC"),
        ("1.3 of nominal capacity", "2.6 mAh"),
        ("5 % of nominal capacity", "0.1 mAh"),
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("(1 + 2) * 3", "9"),
        ("2 ^ 3", "8"),
        ("2 min + 3 s", "2.05 min"),
        ("min(2 min, 3 s)", "3 s"),
        ("max(1 V, 2 V, -3 V)", "2 V"),
        ("abs(-$j)", "0.5 mA/cm2"),
        ("sqrt(4)", "2"),
        ("log10(1000)", "3"),
        ("round(2.6)", "3"),
        ("$list, 5 V", "1 V, 2 V, 5 V"),
        ("$j to 3 by 1 mA/cm2", "0.5 mA/cm2, 1.5 mA/cm2, 2.5 mA/cm2"),
        ("$n - 2", "1"),
        ("$n -2", "1"),
        ("1 < 2 and not 2 < 1", "True"),
        ("1 V >= 2 V or $n == 3", "True"),
    ],
)
def test_expressions_know_units_and_precedence(text: str, result: str) -> None:
    assert shown(text) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 V + 1 A", "is a voltage and"),
        ("$potential * 2", "multiples mean nothing"),
        ("-$potential", "multiples mean nothing"),
        ("$T + 5 degC", "do not add"),
        ("5 V - $potential", "different references"),
        ("$potential > 4 V", "different references"),
        ("$list * 2", "a list"),
        ("$word + 1", "no number"),
        ("1 or 2", "joins comparisons"),
        ("log10(5 V)", "has a unit"),
        ("sqrt(-1)", "cannot be computed"),
        ("1e308 * 10", "beyond all bounds"),
        ("2 ^ 0.5", "exponent"),
        ("2 ^ $n", "exponent"),
        ("min()", "missing|number"),
        ("round(1, 2)", "does not take 2"),
        ("(1 + 2", '"\\)" is missing'),
        ("1 +", "missing at the end"),
        ("$", "not a number"),
        ("$nothing", "there is no"),
        ("foo", "needs a dollar"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(QuantityError, match=words):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('ls')",
        "().__class__.__bases__",
        "$j.__class__.__mro__",
        "lambda: 1",
        "[x for x in 1]",
        "exec('1')",
        "9 ^ 9 ^ 9",
        "f'{1}'",
        "open(1)",
        "$j; $n",
        "(" * 500,
        "-" * 900 + "1",
        "not " * 200 + "1",
        "1" * 900,
        "1, " * 300 + "1",
        "min(" * 100 + "1" + ")" * 100,
    ],
)
def test_hostile_expressions_are_refused_or_harmless(text: str) -> None:
    with contextlib.suppress(QuantityError, ResultMissing):
        value(text)


def test_errors_say_where_in_the_text_they_are() -> None:
    with pytest.raises(QuantityError) as caught:
        value("1 V + $nothing")
    assert (caught.value.column, caught.value.length) == (6, 8)


def test_results_that_do_not_exist_yet_are_told_apart_from_mistakes() -> None:
    with pytest.raises(ResultMissing, match=r"first\.R_total"):
        value("$first.R_total > 100 Ohm")


ATOMS = st.sampled_from(
    ["1", "2 V", "0.5 mA/cm2", "$j", "$n", "$list", "$T", "$x.y", "C/5", "nominal capacity", "5 %"]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(
                ["+", "-", "*", "/", "^", "<", ">=", "==", "and", "or", "of", "to", "by", ","]
            ),
            inner,
        ).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(st.sampled_from(["min", "abs", "sqrt", "not "]), inner).map(
            lambda pair: f"{pair[0]}({pair[1]})"
        ),
    ),
    max_leaves=12,
)


@given(
    EXPRESSIONS | st.text("$()+-*/^<>=.,0123456789 eVmACTj%", max_size=40) | st.text(max_size=40)
)
@example("1 ^ 8 ^ 8")
@example("$list to 1 V by $list")
def test_no_expression_raises_anything_but_a_message(text: str) -> None:
    with contextlib.suppress(QuantityError, ResultMissing):
        value(text)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_sums_and_products_are_those_of_numbers(a: float, b: float) -> None:
    total, product = value(f"({a!r} V) + ({b!r} V)"), value(f"({a!r} V) * ({b!r})")
    assert isinstance(total, Quantity)
    assert isinstance(product, Quantity)
    assert total.value == pytest.approx(a + b)
    assert product.value == pytest.approx(a * b)
