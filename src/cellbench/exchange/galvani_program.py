"""A program of its own, run beside cellbench and never imported: reads EC-Lab's .mpr by galvani.

    python galvani_program.py FILE.mpr OUT.npz

galvani is free software under the GPL, version 3. It is not part of cellbench and is installed by
who wants it, in an environment of its own if they like.
"""

import sys
from importlib.metadata import version

import numpy as np
from galvani.BioLogic import MPRfile


def main(path: str, out: str) -> None:
    """Write the columns of a file by their names, with its start and the reader's version."""
    file = MPRfile(path)
    columns = {name: file.data[name] for name in file.dtype.names if name != "flags"}
    columns |= {name: file.get_flag(name) for name in file.flags_dict}
    started = getattr(file, "timestamp", None)
    np.savez(
        out,
        names=np.array(list(columns)),
        started=np.array("" if started is None else started.isoformat()),
        reader=np.array(f"galvani {version('galvani')}"),
        **{f"column {number}": column for number, column in enumerate(columns.values())},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
