"""Writes docs/drivers.md from what the drivers say of themselves, and the worked example.

python docs/make_drivers.py
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from cellbench.instruments.registry import driver_names, load_driver

DOCS = Path(__file__).parent
PAGE, EXAMPLE = DOCS / "drivers.md", DOCS / "watlow_f4t.py"
HEAD = """# Drivers

A driver is one class that plays a role for one family of instruments: `channel` (potentiostat,
cycler, source-measure unit), `press`, `gauge`, `chamber` or `switch`. It reads like the
instrument's manual; everything else (protocols, limits, journal, recovery) is cellbench's.

`cellbench drivers` lists what is installed. None of the shipped drivers has been tried on an
instrument yet: what each is made from, and what in particular nobody has verified, stands
[below](#shipped-drivers). Each passes the conformance kit against an emulator that was written
apart from it.

## Writing a driver

### How it is found

Either as a plain file that the bench file names, relative to itself:

```yaml
bench: oven bench
instruments:
  chamber: {driver: watlow_f4t.py:WatlowF4T, port: 192.0.2.20, temperature max: 150 degC}
```

or by an entry point of a package of your own, and then by its name, as the shipped ones:

```toml
[project.entry-points."cellbench.drivers"]
watlow_f4t = "our_instruments.watlow_f4t:WatlowF4T"
```

### What it is

A class with four class variables, built from the name that the bench file gives the instrument, an
open stream, and the options of its entry:

| class variable | |
|---|---|
| `role` | `channel`, `press`, `gauge`, `chamber` or `switch` |
| `summary` | one line for `cellbench drivers`: the instruments that it speaks to |
| `serial` | settings of its serial port, `None` where it has none |
| `tcp_port` | the TCP port that it listens on by default, `None` where it has none |

Its methods are those of its role in `cellbench.instruments.roles`, a handful of coroutines. All
numbers are SI floats; positive current is oxidation at the working electrode. Whatever goes wrong
is an `InstrumentError` that says which instrument, what it said and what would be right. Time is
`asyncio.get_running_loop().time()` and `asyncio.sleep` alone: on a simulated bench it is simulated.
Options are a model of `cellbench_drivers.common.Options`, whose types read `150 degC` as people
write it. `cellbench_drivers.lines.Lines` speaks lines of ASCII (`scpi.Scpi`: with an error queue,
`cellbench.transport.modbus.ModbusMaster`: registers); they drain a line on which a reply was lost,
connect again, and never send anything twice.

### A whole one

A chamber behind a Watlow F4T, [watlow_f4t.py](watlow_f4t.py):

```python
<EXAMPLE>```

### What the kit demands

`cellbench.testing` puts a driver through all that a run may do to it, against an emulator, or the
instrument itself with a dummy cell on its leads. It wants to know how to connect, and as much of
the truth as there is (whether the cell is energised, what the force is):

```python
import pytest
from cellbench.testing import Rig, Subject, carry_out, checks_for

SUBJECT = Subject(WatlowF4T, {"temperature max": "150 degC"}, rig)  # rig: see cellbench.testing

@pytest.mark.parametrize("check", checks_for("chamber"), ids=str)
def test_it_conforms(check):
    carry_out(check, SUBJECT)
```

Without pytest, `cellbench.testing.failures(SUBJECT)` carries them all out. A complete rig with its
emulator is in `tests/drivers/test_example_driver.py`. The checks, by role:

<CHECKS>
## Shipped drivers
"""


def page() -> str:
    """The whole page."""
    head = HEAD.replace("<EXAMPLE>", EXAMPLE.read_text(encoding="utf-8"))
    head = head.replace("<CHECKS>", _checks())
    return head + "".join(_section(name) for name in driver_names())


def _checks() -> str:
    from cellbench.testing.checks import ROLES, checks_for

    common = [each for each in checks_for(ROLES[0]) if set(each.roles) == set(ROLES)]
    lines = ["Every driver:\n", *(f"- {each.demand}." for each in common), ""]
    for role in ROLES:
        own = [each for each in checks_for(role) if set(each.roles) != set(ROLES)]
        lines += [f"A {role}:\n", *(f"- {each.demand}." for each in own), ""]
    return "\n".join(lines)


def _section(name: str) -> str:
    driver: Any = load_driver(name)
    module = import_module(driver.__module__)
    text = inspect.cleandoc(module.__doc__ or "").replace("``", "`")
    options = "".join(f"- `{option}`: {meaning}\n" for option, meaning in _options(module))
    return f"\n### {name}\n\nRole: {driver.role}. {driver.summary}.\n\n{text}\n\n{options}"


def _options(module: Any) -> list[tuple[str, str]]:
    """Options by the names that a bench file gives them, with their meanings."""
    (model,) = (
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and _has_options(kind)
    )
    _, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    found = []
    for entry in re.split(r"\n(?=    \S)", listed.rstrip()):
        option, _, meaning = " ".join(entry.split()).partition(": ")
        found.append((option.replace("_", " "), meaning))
    return found


def _has_options(kind: Any) -> bool:
    return kind.__name__.endswith("Options") and hasattr(kind, "model_fields")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
