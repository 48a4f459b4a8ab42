"""Writes docs/drivers.md and docs/writing_a_driver.md from drivers, the kit and the example.

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
SHIPPED = """# Drivers

The drivers that come with cellbench, by the name that a bench file gives them. **None of them has
been tried on an instrument yet.** Each says what it was made from, and what in particular nobody
has verified; each passes the conformance kit against an emulator that was written apart from it.
Another instrument is a class of some hundred lines: see [Writing a driver](writing_a_driver.md).

```sh
cellbench drivers
```
"""
WRITING = """# Writing a driver

A driver is one class that plays a role for one family of instruments: `channel` (potentiostat,
cycler, source-measure unit), `press`, `gauge`, `chamber` or `switch`. It reads like the
instrument's manual; everything else (protocols, limits, journal, recovery) is cellbench's.

## What it is

A class with four class variables, built from the name that the bench file gives the instrument, an
open stream, and the options of its entry:

| class variable | |
|---|---|
| `role` | `channel`, `press`, `gauge`, `chamber` or `switch` |
| `summary` | one line for `cellbench drivers`: the instruments that it speaks to |
| `serial` | settings of its serial port, `None` where it has none |
| `tcp_port` | the TCP port that it listens on by default, `None` where it has none |

Its methods are those of its role in [`cellbench.instruments.roles`](api.md#roles), a handful of
coroutines. All numbers are SI floats; positive current is oxidation at the working electrode.
Whatever goes wrong is an `InstrumentError` that says which instrument, what it said and what would
be right. Time is `asyncio.get_running_loop().time()` and `asyncio.sleep` alone: on a simulated
bench it is simulated. Options are a model of `cellbench_drivers.common.Options`, whose types read
`150 degC` as people write it. `cellbench_drivers.lines.Lines` speaks lines of ASCII (`scpi.Scpi`:
with an error queue, `cellbench.transport.modbus.ModbusMaster`: registers); they drain a line on
which a reply was lost, connect again, and never send anything twice.

## A whole one

A chamber behind a Watlow F4T:

```python title="watlow_f4t.py"
<EXAMPLE>```

A bench file names it by its file, relative to itself:

```yaml
bench: oven bench
instruments:
  chamber: {driver: watlow_f4t.py:WatlowF4T, port: 192.0.2.20, temperature max: 150 degC}
```

A package of your own names it by an entry point; then it goes by its name, as the shipped ones do:

```toml
[project.entry-points."cellbench.drivers"]
watlow_f4t = "our_instruments.watlow_f4t:WatlowF4T"
```

## Putting it through the kit

`cellbench.testing` puts a driver through all that a run may do to it, against an emulator, or the
instrument itself with a dummy cell on its leads. It wants to know how to connect, and as much of
the truth as there is (whether the cell is energised, what the force is). Here the emulator is a
chamber of the simulated bench:

```python title="test_watlow_f4t.py"
<TEST>```

```sh
pytest -q test_watlow_f4t.py
```

Without pytest, `cellbench.testing.failures(SUBJECT)` carries all checks out. An emulator should be
written by somebody who has not seen the driver, from the manual: what both of them misread, no test
finds. The checks, by role:

<CHECKS>"""


def pages() -> dict[str, str]:
    """The pages, by their places in docs/."""
    writing = WRITING.replace("<CHECKS>", _checks().rstrip() + "\n")
    for mark, file in (("<EXAMPLE>", "watlow_f4t.py"), ("<TEST>", "test_watlow_f4t.py")):
        writing = writing.replace(mark, (DOCS / file).read_text(encoding="utf-8"))
    sections = "".join(_section(name) for name in driver_names())
    return {"drivers.md": SHIPPED + sections, "writing_a_driver.md": writing}


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
    return f"\n## {name}\n\nRole: {driver.role}. {driver.summary}.\n\n{text}\n\n{options}"


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
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
