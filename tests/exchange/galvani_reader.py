"""Run by the Python of another environment: the columns of a .mpr or .mpt file as JSON.

python galvani_reader.py FILE
"""

import json
import sys

from galvani.BioLogic import MPRfile, MPTfile


def main(path: str) -> None:
    rows = MPRfile(path).data if path.endswith(".mpr") else MPTfile(path)[0]
    json.dump({name: rows[name].tolist() for name in rows.dtype.names}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
