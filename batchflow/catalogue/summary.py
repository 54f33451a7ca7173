"""What was understood of a catalogue: counts that grow piece by piece."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.catalogue.galaxies import GalaxyTally
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.schema import Flag, flux_column
from batchflow.settings.catalogue import CatalogueSettings


@dataclass(frozen=True)
class CatalogueSummary:
    """What was understood of a catalogue."""

    survey: str
    """Name of the survey."""
    path: str
    """The file, or the files."""
    n_rows: int
    """Rows taken."""
    n_left_out: int
    """Rows of other visual classes than the job asks for."""
    galaxies: Mapping[str, int]
    """Rows by galaxy."""
    classes: Mapping[int, int]
    """Rows by visual class; 0 unknown."""
    bands: Mapping[str, int]
    """Rows with a usable flux or limit, by band of the survey."""
    zero_points: Mapping[str, float]
    """AB - Vega [mag] by band, where the file is in Vega magnitudes; the median where rows differ."""
    sentinels: Mapping[str, int]
    """Values that stand for none, by what they mean; in the whole file."""
    flags: Mapping[str, int]
    """Rows by flag; those flags that occur."""
    surveys: Mapping[str, int] = field(default_factory=dict)
    """Rows by survey, where the files hold several."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit by band, in words."""
    warnings: tuple[str, ...] = ()
    """What may be wrong with the galaxies' names, positions or distances."""

    def lines(self) -> list[str]:
        """Say it in words, a line a thing."""
        left_out = f", {self.n_left_out} of other classes left out" if self.n_left_out else ""
        named: dict[str, Mapping[Any, int]] = {
            "surveys": self.surveys,
            "galaxies": self.galaxies,
            "classes": self.classes,
            "measured": self.bands,
            "sentinels": self.sentinels,
            "flags": self.flags,
        }
        lines = [f"{self.survey}: {self.n_rows} rows from {self.path}{left_out}"]
        lines += [f"  {name}: {_counts(values)}" for name, values in named.items() if values]
        lines += [f"  {bands} in {unit}" for unit, bands in self.bands_by_unit().items()]
        if self.zero_points:
            lines.append(f"  AB - Vega [mag]: {_counts(self.zero_points)}")
        return lines + [f"  warning: {text}" for text in self.warnings]

    def bands_by_unit(self) -> dict[str, str]:
        """Bands, with commas between, by the unit that they share."""
        named: dict[str, list[str]] = {}
        for band, unit in self.units.items():
            named.setdefault(unit, []).append(band)
        return {unit: ", ".join(bands) for unit, bands in named.items()}


def _counts(values: Mapping[Any, float]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in values.items())


@dataclass
class Tally:
    """Counts of the pieces of a catalogue; tallies of separate pieces can be merged in any order."""

    n_read: int = 0
    """Rows read, of whatever class."""
    n_rows: int = 0
    """Rows taken."""
    classes: Counter[int] = field(default_factory=Counter)
    surveys: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    sentinels: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    units: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    zero_points: dict[str, set[float]] = field(default_factory=lambda: defaultdict(set))
    seen_classes: set[int] = field(default_factory=set)
    """Classes that the file has, taken or not."""
    galaxies: GalaxyTally = field(default_factory=GalaxyTally)

    def add(self, raw: RawCatalogue, taken: pa.Table) -> None:
        """Count a piece.

        Parameters
        ----------
        raw : RawCatalogue
            The piece as its reader understood it.
        taken : pyarrow.Table
            Its rows that the job takes, normalised.
        """
        self.n_read += len(raw.object_id)
        self.n_rows += taken.num_rows
        self.sentinels.update(raw.sentinels)
        if raw.class_ is not None:
            self.seen_classes.update(np.unique(raw.class_).tolist())
        self.classes.update(_value_counts(taken, "class_"))
        self.surveys.update(_value_counts(taken, "survey"))
        self.bands.update({band: _measured(taken, band) for band in raw.flux})
        for band, unit in raw.units.items():
            self.units[band].add(unit)
        for band, value in raw.zero_points.items():
            self.zero_points[band].add(value)
        flags = taken["flags"].to_numpy()
        self.flags.update({str(flag.name): int((flags & flag != 0).sum()) for flag in Flag})
        self.galaxies.add(taken)

    def count_duplicates(self, n_rows: int) -> None:
        """Set the number of rows whose id another row has: known only when all pieces have been seen."""
        self.flags[str(Flag.DUPLICATE_ID.name)] = n_rows

    def merge(self, other: Tally) -> None:
        """Take in the counts of other pieces."""
        self.n_read += other.n_read
        self.n_rows += other.n_rows
        for name in ("classes", "surveys", "bands", "sentinels", "flags"):
            getattr(self, name).update(getattr(other, name))
        for band, units in other.units.items():
            self.units[band] |= units
        for band, values in other.zero_points.items():
            self.zero_points[band] |= values
        self.seen_classes |= other.seen_classes
        self.galaxies.merge(other.galaxies)

    def summary(self, entry: CatalogueSettings, path: str) -> CatalogueSummary:
        """What the counts amount to.

        Parameters
        ----------
        entry : CatalogueSettings
            How the catalogue was read.
        path : str
            Its file, or its files in words.

        Returns
        -------
        CatalogueSummary
            Of all pieces counted so far.
        """
        several = set(self.surveys) - {entry.survey}
        return CatalogueSummary(
            survey=entry.survey,
            path=path,
            n_rows=self.n_rows,
            n_left_out=self.n_read - self.n_rows,
            galaxies=self.galaxies.counts(),
            classes=dict(sorted(self.classes.items())),
            bands=dict(self.bands),
            zero_points={band: float(np.median(list(self.zero_points[band]))) for band in self.zero_points},
            sentinels={name: count for name, count in self.sentinels.items() if count},
            flags={flag.name: count for flag in Flag if flag.name and (count := self.flags[flag.name])},
            surveys=dict(sorted(self.surveys.items())) if several else {},
            units={band: " or ".join(sorted(units)) for band, units in self.units.items()},
            warnings=tuple(self.galaxies.warnings()),
        )


def _measured(table: pa.Table, band: str) -> int:
    return int(np.isfinite(table[flux_column(band)].to_numpy()).sum())


def _value_counts(table: pa.Table, column: str) -> dict[Any, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(table[column]).to_pylist()}
