"""The 38 galaxies of PHANGS-HST: distances, bands, zero points (sources: `data/phangs_targets.csv`)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).parent / "data" / "phangs_targets.csv"
COMPANIONS = {"ngc1510": "ngc1512"}
"""Galaxies whose clusters are rows of another target's catalogue."""


@dataclass(frozen=True)
class Target:
    """A target: a galaxy, or one of two fields in it."""

    name: str
    """As file names of the release have it, such as ``ngc628c``."""
    galaxy: str
    distance_mpc: float
    """Distance [Mpc]."""
    distance_error_mpc: float
    """Its 1-sigma error [Mpc]."""
    zero_points: Mapping[str, float]
    """AB - Vega [mag] of each of its five bands, in the order of wavelength."""

    @property
    def filters(self) -> dict[str, str]:
        """Filter of each band, as column names have it: band ``acs_f435w`` is filter ``F435W``."""
        return {band: band.partition("_")[2].upper() for band in self.zero_points}


@lru_cache(maxsize=1)
def known_targets() -> Mapping[str, Target]:
    """Targets by their own and their galaxies' names, without leading zeros.

    Returns
    -------
    mapping of str to Target
        A galaxy of two targets stands for the first, the central one.
    """
    with FILE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    targets = [_target(row) for row in rows]
    by_galaxy = {plain(target.galaxy): target for target in reversed(targets)}
    found = by_galaxy | {target.name: target for target in targets}
    return found | {name: replace(found[host], galaxy=name) for name, host in COMPANIONS.items()}


def _target(row: Mapping[str, str]) -> Target:
    bands = ("wfc3_f275w", "wfc3_f336w", row["b_band"], row["v_band"], row["i_band"])
    names = ("zp_f275w", "zp_f336w", "zp_b", "zp_v", "zp_i")
    return Target(
        row["target"],
        row["galaxy"],
        float(row["distance_mpc"]),
        float(row["distance_error_mpc"]),
        {band: float(row[name]) for band, name in zip(bands, names, strict=True)},
    )


def plain(name: str) -> str:
    """A galaxy's name without what spellings differ in: ``NGC 0628-c`` is ``ngc628c``."""
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", re.sub(r"[\s_-]+", "", name.lower()))


def target_in(file_name: str) -> Target | None:
    """The target that a file name names.

    Parameters
    ----------
    file_name : str
        For example ``hlsp_phangs-cat_hst_acs-uvis_ngc628c_multi_v1_obs-human-cluster-class12.fits``.

    Returns
    -------
    Target or None
        None when no part of the name, between underscores and dots, is one.
    """
    parts = re.split(r"[_.]", file_name.lower())
    return next((found for part in parts if (found := known_targets().get(plain(part)))), None)
