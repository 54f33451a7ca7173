"""The section [[catalogue]]: a file of photometry, and how to read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from batchflow.settings.base import Band, Settings


class TableColumns(Settings):
    """[catalogue.columns]: where a table keeps what; `flux`, `error` and `limit` map bands to columns."""

    id: str = Field("object_id", description="column of the identifier")
    galaxy: str | None = Field(None, description="column of the galaxy's name; default galaxy")
    ra: str | None = Field(None, description="column of the right ascension; default ra")
    dec: str | None = Field(None, description="column of the declination; default dec")
    distance_mpc: str | None = Field(None, description="column of the distance [Mpc]; default distance_mpc")
    distance_error_mpc: str | None = Field(
        None, description="column of its 1-sigma error [Mpc]; default distance_error_mpc"
    )
    redshift: str | None = Field(None, description="of the Hubble flow; gives the distance of rows without")
    class_: str | None = Field(None, description="column of the visual class, an integer; default class_")
    flux: dict[Band, str] = Field({}, description="column of each band; default flux_<band>")
    error: dict[Band, str] = Field({}, description="column of each band's error; default error_<band>")
    limit: dict[Band, str] = Field({}, description="boolean column of each band; default limit_<band>")
    published: dict[Literal["log_age", "log_mass", "ebv"], str] = Field(
        {}, description="column of each published value; default published_<parameter>"
    )


class CatalogueSettings(Settings):
    """[[catalogue]]: one survey, that is a field or release with its own bands and depth."""

    path: Path | tuple[Path, ...] = Field(
        description="the file, a pattern (fields/*.fits) or a list of them, relative to the job file"
    )
    sed_path: Path | tuple[Path, ...] | None = Field(
        None, description="phangs: the files of published ages and masses, joined on the id"
    )
    format: Literal["legus", "phangs", "phatter", "table"] = Field("table", description="how to read it")
    file_type: Literal["fits", "votable", "ecsv", "csv", "parquet", "ascii"] | None = Field(
        None, description="of the file; default: what its content, or else its extension, says"
    )
    hdu: int | None = Field(
        None,
        ge=0,
        description="extension of a FITS file or table of a VOTable, from 0; default the first",
    )
    name: str | None = Field(None, min_length=1, description="name of the survey; default: the file's")
    noise_by: Literal["survey", "galaxy"] = Field(
        "survey", description="whose errors are alike: the whole survey's, or each galaxy's, one survey each"
    )
    galaxy: str | None = Field(None, min_length=1, description="for rows without a galaxy of their own")
    distance_mpc: PositiveFloat | None = Field(None, description="for rows without a distance [Mpc]")
    distance_error_mpc: NonNegativeFloat | None = Field(
        None, description="1-sigma error of the distance, for rows without one of their own [Mpc]"
    )
    foreground_ebv: float | None = Field(
        None,
        ge=0,
        le=3,
        description="E(B-V) [mag] of the Milky Way that is still in the photometry, and is taken out",
    )
    bands: tuple[Band, ...] | None = Field(
        None, description="bands of the file; legus: those of its five magnitude columns, in order"
    )
    classes: tuple[int, ...] | None = Field(None, description="visual classes to take; default all")
    unit: Literal["mJy", "uJy", "nJy", "Jy", "AB", "Vega", "maggies", "nanomaggies", "erg/s/cm2/Hz"] = Field(
        "mJy", description="of flux and error columns whose unit the file does not tell"
    )
    zero_points: dict[Band, float] = Field({}, description="AB - Vega [mag] by band, in place of the default")
    sentinels: tuple[float, ...] = Field(
        (), description="table: numbers that stand for none in flux and error columns, such as -99 or 99.999"
    )
    limit_error: Literal["negative"] | float | None = Field(
        None,
        description='table: the error that marks a flux as an upper limit: "negative", or a number as -99',
    )
    systematic: float | None = Field(
        None, ge=0, lt=1, description="of this catalogue, in place of [noise] systematic"
    )
    limit_sigma: PositiveFloat = Field(3.0, description="standard deviations at which limits are quoted")
    columns: TableColumns = TableColumns()

    @property
    def survey(self) -> str:
        """Name of the survey: by default the first file's without its extensions; of a pattern, its text."""
        if self.name or not self.paths:
            return self.name or "catalogue"
        first = self.paths[0]
        stem = re.sub(r"\.(gz|bz2|xz|zst)$", "", first.name, flags=re.IGNORECASE)
        found = re.sub(r"[*?\[\]]+", "_", Path(stem).stem).strip("_-. ")
        return found or first.parent.name or "catalogue"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, or each of the list, as given: patterns are not resolved."""
        return self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def sed_paths(self) -> tuple[Path, ...]:
        """The same of `sed_path`; empty when there is none."""
        if self.sed_path is None:
            return ()
        return self.sed_path if isinstance(self.sed_path, tuple) else (self.sed_path,)

    def located(self, folder: Path) -> CatalogueSettings:
        """The same entry with paths relative to a folder made absolute."""
        found = {"path": _located(self.path, folder)}
        if self.sed_path is not None:
            found["sed_path"] = _located(self.sed_path, folder)
        return self.model_copy(update=found)


def _located(path: Path | tuple[Path, ...], folder: Path) -> Path | tuple[Path, ...]:
    if isinstance(path, tuple):
        return tuple((folder / item).resolve() for item in path)
    return (folder / path).resolve()
