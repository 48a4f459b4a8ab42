"""Writes docs/analyses.md from what the analyses say of themselves.

python docs/make_analyses.py
"""

from __future__ import annotations

import re
from pathlib import Path

from cellbench.analysis import available, definition

DOCS = Path(__file__).parent
HEAD = """# Analyses

A protocol names the analyses that are done when it has ended (`analyses: [ccd, conductivity]`);
`cellbench analyze RUN NAME` does one afterwards, on any run, and `"NAME within PLACE"` on a part of
it (see [protocol.md](protocol.md#analyses)). `cellbench analyses` lists them, and with a name shows
what stands here. From Python each works on any table of samples:
`cellbench.analysis.analyse("capacity", dataset_of(table, geometry))`, with `dataset_of` from
`cellbench.analysis.table`.

An analysis never guesses: what the data do not show is `null` in its result, with the reason
beside it where there is one. Options are given from Python.
"""


def pages() -> dict[str, str]:
    """The page, by its place in docs/."""
    return {"analyses.md": HEAD + "".join(_section(name) for name in available())}


def _section(name: str) -> str:
    text, _, rest = definition(name).partition("\n\nArgs:\n")
    rest, _, _ = rest.partition("\n\nRaises:")
    text, _, _ = text.partition("\n\nRaises:")
    listed = "\n".join(_options(rest))
    return f"\n## {name}\n\n{text.replace('``', '`')}\n" + (f"\n{listed}\n" if listed else "")


def _options(arguments: str) -> list[str]:
    """The list of options: the first argument is always the dataset, with what it has to hold."""
    found = []
    for entry in re.split(r"\n(?=    \S)", arguments):
        name, _, meaning = " ".join(entry.split()).partition(": ")
        if name == "dataset":
            found.append(f"- needs {meaning}")
        elif name:
            found.append(f"- `{name}`: {meaning}")
    return found


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
