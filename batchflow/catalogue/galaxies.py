"""Galaxies of a catalogue, piece by piece: how many clusters, where, how far, and under which names."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_KPC = 100.0
"""No galaxy's clusters lie farther from one another than this, in projection."""
WIDEST_DEG = 20.0
"""Nor farther than this on the sky; the Large Magellanic Cloud's lie within 10 degrees of its centre."""
UNKNOWN_DEG = 5.0
"""The same where no distance is known."""
DISTANCE_RATIO = 1.25
"""Distances of one galaxy that differ by more are those of two galaxies, or of two papers that disagree."""


@dataclass
class GalaxyExtent:
    """Where a galaxy's clusters are; extents of separate rows can be merged."""

    n_rows: int = 0
    """Its clusters."""
    low: Floats = field(default_factory=lambda: np.full(3, np.inf))
    """Least coordinates of the directions to them, as unit vectors, shape (3,)."""
    high: Floats = field(default_factory=lambda: np.full(3, -np.inf))
    """Largest coordinates, shape (3,)."""
    nearest_mpc: float = np.inf
    """Least distance [Mpc]; infinite when none is known."""
    farthest_mpc: float = -np.inf
    """Largest distance [Mpc]."""
    n_off: int = 0
    """Clusters whose coordinates are no place on the sky."""

    def add(self, directions: Floats, distances: Floats) -> None:
        """Take in clusters.

        Parameters
        ----------
        directions : ndarray, shape (n_clusters, 3)
            Unit vectors; NaN unknown.
        distances : ndarray, shape (n_clusters,)
            Distances [Mpc]; NaN unknown.
        """
        self.n_rows += len(distances)
        self.low = np.fmin(self.low, np.fmin.reduce(directions, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(directions, initial=-np.inf))
        known = distances[np.isfinite(distances) & (distances > 0)]
        self.nearest_mpc = min(self.nearest_mpc, known.min(initial=np.inf))
        self.farthest_mpc = max(self.farthest_mpc, known.max(initial=-np.inf))

    def merge(self, other: GalaxyExtent) -> None:
        """Take in what another extent covers."""
        self.n_rows += other.n_rows
        self.n_off += other.n_off
        self.low, self.high = np.fmin(self.low, other.low), np.fmax(self.high, other.high)
        self.nearest_mpc = min(self.nearest_mpc, other.nearest_mpc)
        self.farthest_mpc = max(self.farthest_mpc, other.farthest_mpc)

    @property
    def width_deg(self) -> float:
        """Largest separation of two clusters along an axis [deg]: at most that on the sky."""
        span = float(np.max(self.high - self.low))
        return float(np.degrees(2 * np.arcsin(min(span, 2.0) / 2))) if span >= 0 else 0.0

    @property
    def widest_deg(self) -> float:
        """Separation that one galaxy's clusters can have [deg]."""
        if not np.isfinite(self.nearest_mpc):
            return UNKNOWN_DEG
        return min(math.degrees(LARGEST_KPC / 1000 / float(self.nearest_mpc)), WIDEST_DEG)


@dataclass
class GalaxyTally:
    """Extents by name; names are kept apart exactly as they are written."""

    extents: dict[str, GalaxyExtent] = field(default_factory=lambda: defaultdict(GalaxyExtent))

    def add(self, table: pa.Table) -> None:
        """Take in normalised clusters."""
        ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
        directions, off = _directions(ra, dec), _off_the_sky(ra, dec)
        distances = table["distance_mpc"].to_numpy()
        for name, rows in by_galaxy(table):
            self.extents[name].add(directions[rows], distances[rows])
            self.extents[name].n_off += int(off[rows].sum())

    def merge(self, other: GalaxyTally) -> None:
        """Take in another tally."""
        for name, extent in other.extents.items():
            self.extents[name].merge(extent)

    def counts(self) -> dict[str, int]:
        """Clusters by galaxy, by name."""
        return {name: self.extents[name].n_rows for name in sorted(self.extents)}

    def warnings(self) -> list[str]:
        """Say which names may stand for two galaxies, and which galaxies may have two names."""
        found = [text for name in sorted(self.extents) for text in _doubts(name, self.extents[name])]
        alike = defaultdict(list)
        for name in sorted(self.extents):
            alike[plain_name(name)].append(name)
        return found + [
            f"galaxies {', '.join(map(repr, names))} differ in spelling alone; they are kept apart: "
            "if they are one galaxy, give it one name"
            for names in alike.values()
            if len(names) > 1
        ]


def by_galaxy(table: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Rows of each galaxy of a normalised table.

    Parameters
    ----------
    table : pyarrow.Table
        With the column `galaxy`.

    Yields
    ------
    tuple of (str, ndarray)
        Name, and indices of its rows, increasing; by name.
    """
    if not table.num_rows:
        return
    column = table["galaxy"].combine_chunks().dictionary_encode()
    names = column.dictionary.to_pylist()
    codes = column.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    groups = {names[codes[rows[0]]]: rows for rows in np.split(order, edges)}
    yield from ((name, groups[name]) for name in sorted(groups))


def plain_name(name: str) -> str:
    """A galaxy's name without what spellings differ in: case, blanks, dashes, leading zeros.

    Parameters
    ----------
    name : str
        For example ``"NGC 0628"``.

    Returns
    -------
    str
        For example ``"ngc628"``.
    """
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_-]+", "", name.casefold()))


def _directions(ra: Floats, dec: Floats) -> Floats:
    """Unit vectors, shape (n_clusters, 3); NaN where a coordinate is not known."""
    with np.errstate(invalid="ignore"):
        alpha, delta = np.radians(ra), np.radians(dec)
        return np.stack(
            [np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)], axis=-1
        )


def _off_the_sky(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Coordinates that nothing on the sky has [deg]; NaN is unknown, and right ascension may be signed."""
    return (ra < -180) | (ra > 360) | (np.abs(dec) > 90)


def _doubts(name: str, extent: GalaxyExtent) -> list[str]:
    found = []
    if extent.n_off:
        found.append(
            f"galaxy {name!r}: {extent.n_off} positions are not on the sky; expected right ascensions from 0 "
            "to 360 and declinations from -90 to 90 degrees: are the columns right, and in degrees?"
        )
    if extent.width_deg > extent.widest_deg:
        found.append(
            f"galaxy {name!r}: positions {extent.width_deg:.2g} degrees apart, where one galaxy spans "
            f"{extent.widest_deg:.2g} at most: are there two under one name?"
        )
    if extent.farthest_mpc / DISTANCE_RATIO > extent.nearest_mpc:
        found.append(
            f"galaxy {name!r}: distances from {extent.nearest_mpc:.4g} to {extent.farthest_mpc:.4g} Mpc: "
            "are there two galaxies under one name?"
        )
    return found
