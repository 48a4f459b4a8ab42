"""Writes docs/language.md from the schema of the protocol language, its units and its results.

python docs/make_language.py
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cellbench.protocol.bodies import MODELS, ChannelBody, EveryBody, Record, SettleBody, StepBody
from cellbench.protocol.schema import (
    STRUCTURES,
    VERBS,
    ConditionsBody,
    LimitsBody,
    ProtocolFile,
    Step,
)
from cellbench.protocol.scope import RESULTS
from cellbench.quantities import DIMENSIONS

DOCS = Path(__file__).parent
HEAD = """# Language reference

Every key of a protocol file, as the schema has it; [Protocols](protocol.md) says how they are used
together. `cellbench schema` prints the same for editors.

A value is written with its unit. "needed" marks what cannot be left out. `$name` may stand for any
value, and for a block under `define`.

## The file

"""
#: One of each, as one would write it; the cell is NCM85_InLi, which has a charge.
EXAMPLES = {
    "rest": "rest: 10 min",
    "current": "current: {at: 0.5 mA/cm2, for: 20 min}",
    "charge": "charge: {at: C/10, until: potential >= 4.3 V vs Li+/Li, at most: 12 h}",
    "discharge": "discharge: {at: C/10, until: potential <= 2.8 V vs Li+/Li, at most: 12 h}",
    "voltage": "voltage: {at: 3.5 V at the terminals, for: 10 min}",
    "hold": 'hold: {at: 4.2 V vs Li+/Li, until: "|current| <= 0.05 mA/cm2", at most: 2 h}',
    "sweep": "sweep: {from: open circuit, to: 4.2 V vs Li+/Li, rate: 1 mV/s}",
    "cv": 'cv: {vertices: "4.2 V vs Li+/Li, 3 V vs Li+/Li", cycles: 2, rate: 1 mV/s}',
    "eis": "eis: {from: 1 MHz, to: 100 mHz, amplitude: 10 mV}",
    "press": "press: {to: 5 MPa, settle: {within: 0.1 MPa, for: 2 min}}",
    "temperature": "temperature: {to: 30 degC, settle: {within: 0.5 degC, for: 10 min}}",
    "wait": "wait: {until: stack pressure < 4 MPa, at most: 2 h}",
    "check": "check: {open circuit: 1.5 V to 3.6 V vs Li+/Li}",
    "prompt": 'prompt: {ask: Is the valve closed?, choices: ["yes", "no"]}',
    "mark": "mark: the long hold begins",
}
#: Each structure with what it is, the keys beside it, and an example.
STRUCTURED = {
    "for each": (
        "Its steps once for each value; of several variables all combinations, the last fastest.",
        'for each: {p: "2, 5 MPa", T: "25, 30 degC"}\n  steps:\n    - press: $p\n'
        "    - temperature: $T",
    ),
    "repeat": (
        "Its steps so many times, with `until` at most so many. `$cycle` is the number of the"
        " pass.",
        "repeat: 10\n  until: voltage > 3.6 V at the terminals\n  steps:\n    - rest: 10 min",
    ),
    "if": (
        "Its steps where the expression is true, those of `else` where it is not.",
        "if: 2 * 2 == 4\n  steps:\n    - rest: 1 min\n  else:\n    - rest: 2 min",
    ),
    "group": ("Its steps, under a name.", "group: Formation\n  steps:\n    - rest: 10 min"),
    "include": (
        "Another protocol: a file beside this one, or a shipped one.",
        "include: stack_pressure_eis_full\n  with: {dwell: 5 min}",
    ),
}
BESIDE = ("steps", "until", "else_", "with_", "name")
COMMON = {ChannelBody: "every step on the channel", StepBody: "every step"}


def pages() -> dict[str, str]:
    """The page, by its place in docs/."""
    blocks = {"record": Record, "settle": SettleBody, "every": EveryBody}
    parts = [
        HEAD, _keys(ProtocolFile.model_fields),
        "\n## Steps\n\nA step is a verb with its block, or with the one value that its block"
        " stands for.\n",
        *(_verb(verb) for verb in VERBS),
        "\n### Keys of every step on the channel\n\nWhat `rest`, `current`, `charge`,"
        " `discharge`, `voltage` and `hold` have besides.\n\n", _keys(_own(ChannelBody)),
        "\n### Keys of every step\n\n", _keys(_own(StepBody)),
        "\n## Loops, branches and groups\n", *(_structure(name) for name in STRUCTURES),
        "\n### Keys beside them\n\n", _keys({name: Step.model_fields[name] for name in BESIDE}),
        "\n## Blocks within steps\n", *(_part(f"### {name}", blocks[name]) for name in blocks),
        _part("## Limits", LimitsBody), _part("## Conditions", ConditionsBody), _units(),
    ]  # fmt: skip
    return {"language.md": "".join(parts)}


def _verb(verb: str) -> str:
    model = MODELS[verb]
    shared = next(base for base in COMMON if issubclass(model, base))
    fields = {name: each for base in reversed(model.__mro__) if not issubclass(shared, base)
              for name, each in _own(base).items()}  # fmt: skip
    results = ", ".join(f"`{name}`" for name in RESULTS.get(verb, ()))
    short = getattr(model, "short", None)
    parts = [
        f"### {verb}",
        _said(model) + (f" A bare value is `{short}`." if short else ""),
        _example(EXAMPLES[verb]),
        _keys(fields).rstrip() if fields else "",
        f"And the keys of [{COMMON[shared]}](#keys-of-{COMMON[shared].replace(' ', '-')})."
        + (f" Results: {results}." if results else ""),
    ]
    return "\n" + "\n\n".join(part for part in parts if part) + "\n"


def _structure(name: str) -> str:
    said, example = STRUCTURED[name]
    return f"\n### {name}\n\n{said}\n\n{_example(example)}\n"


def _example(text: str) -> str:
    return f"<!-- cell: NCM85_InLi -->\n```yaml\n- {text}\n```"


def _part(title: str, model: type[BaseModel]) -> str:
    return f"\n{title}\n\n{_said(model)}\n\n{_keys(_own(model))}"


def _said(model: type[BaseModel]) -> str:
    """What a model is for: the first paragraph of its docstring."""
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


def _own(model: type[Any]) -> dict[str, FieldInfo]:
    """The fields that a model does not have from what it is based on."""
    names = vars(model).get("__annotations__", {})
    return {name: model.model_fields[name] for name in names if name in model.model_fields}


def _keys(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        f"| `{info.alias or name}` | {_default(info)} | {_meaning(info)} |\n"
        for name, info in fields.items()
    ]
    return "| Key | Default | Meaning |\n|---|---|---|\n" + "".join(rows)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    return f"`{info.default}`" if isinstance(info.default, str) and info.default else ""


def _meaning(info: FieldInfo) -> str:
    said = (info.description or "").replace("|", "\\|").rstrip(".")
    words = _literals(info.annotation)
    return f"{said}. One of `{'`, `'.join(words)}`." if len(words) > 1 else f"{said}."


def _literals(annotation: Any) -> list[str]:
    found = get_args(annotation)
    if found and all(isinstance(each, str) for each in found):
        return list(found)
    return [word for each in found for word in _literals(each)]


def _units() -> str:
    rows = [
        f"| {each.name} | {', '.join(f'`{unit}`' for unit in each.units)} | `{each.example}` |\n"
        for each in DIMENSIONS.values()
        if each.units
    ]
    return (
        "\n## Units\n\nWhat cellbench itself writes; any product of known units with its prefix"
        " (`p n u m c k M G`) is read. Also known: `d`, `bar`, `kgf`, `t` (tonne-force), `g`,"
        " `coulomb`, `ppm`. A C-rate is `C/5`, `2C` or `0.2C`.\n\n"
        "| Quantity | Units | Example |\n|---|---|---|\n" + "".join(rows)
    )


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
