"""What each column is: unit, UCD and description, for every file that is written and for the manual."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

UNITS = {
    **{"log_age": "dex(yr)", "log_mass": "dex(solMass)", "ebv": "mag"},
    **{"metallicity": "", "rv": "", "covering": ""},
}
"""Unit of each parameter, in the notation of astropy.units. `log_mass` is mass FORMED."""


@dataclass(frozen=True)
class Column:
    """What a reader needs to know of a column."""

    unit: str = ""
    """In the notation of astropy.units; empty when it has none."""
    ucd: str = ""
    """Unified content descriptor (IVOA, UCD1+)."""
    description: str = ""
    """One line; empty for a column that is not known here."""

    def field(self, name: str, type_: pa.DataType) -> pa.Field:
        """An Arrow field that carries all this in its metadata."""
        return pa.field(name, type_, metadata={key: text for key, text in vars(self).items() if text} or None)


PARAMETERS = {
    "log_age": Column(UNITS["log_age"], "time.age", "log10 of the age"),
    "log_mass": Column(UNITS["log_mass"], "phys.mass", "log10 of the mass of stars formed"),
    "log_mass_current": Column(UNITS["log_mass"], "phys.mass", "log10 of the mass of surviving stars"),
    "ebv": Column(UNITS["ebv"], "phot.color.excess", "reddening E(B-V)"),
    "metallicity": Column("", "phys.abund.Z", "metal mass fraction Z"),
    "rv": Column("", "phys.absorption", "total over selective extinction, A(V) / E(B-V)"),
    "covering": Column(
        "", "stat.filling", "share of the ionising light that gas turns into nebular emission"
    ),
}
"""The parameters themselves, and the mass of the surviving stars."""
_PARAMETER = "|".join(sorted(PARAMETERS, key=len, reverse=True))

_PLAIN = {
    "galaxy": Column("", "meta.id.parent", "galaxy that the cluster belongs to"),
    "survey": Column("", "meta.dataset", "catalogue, or field of one, whose noise the photometry has"),
    "object_id": Column("", "meta.id;meta.main", "identifier of the cluster within its galaxy"),
    "ra": Column("deg", "pos.eq.ra;meta.main", "right ascension, ICRS as the catalogue has it"),
    "dec": Column("deg", "pos.eq.dec;meta.main", "declination, ICRS as the catalogue has it"),
    "distance_mpc": Column("Mpc", "pos.distance", "distance of the galaxy"),
    "distance_error_mpc": Column("Mpc", "stat.error;pos.distance", "1-sigma error of the distance"),
    "foreground_ebv": Column(
        "mag", "phys.absorption.gal", "Milky Way's E(B-V) taken out of the photometry here"
    ),
    "class_": Column("", "src.class", "visual class of the catalogue; 0 unknown"),
    "n_bands": Column("", "meta.number", "bands that were used"),
    "flags": Column("", "meta.code.qual", "bit mask; `batchflow flags` explains each bit"),
    "n_modes": Column("", "meta.number", "modes of the posterior in age"),
    "mode_weight": Column("", "stat.probability", "posterior probability of each mode, the largest first"),
    "efficiency": Column("", "stat.fit.goodness", "effective draws over draws after importance weighting"),
    "log_evidence": Column("", "stat.likelihood", "natural logarithm of the evidence, fluxes in mJy"),
    "log_evidence_error": Column("", "stat.error", "standard error of log_evidence"),
    "member_spread": Column(
        "", "stat.stdev", "how far the medians of an ensemble's networks lie apart, in posterior deviations"
    ),
    "ppc_chi2": Column("", "stat.fit.chi2", "chi square of the photometry at the draw of highest density"),
    "ppc_pvalue": Column("", "stat.fit.goodness", "posterior predictive p-value of chi square"),
    "ood_pvalue": Column(
        "", "stat.probability", "p-value of colours and errors among those of the training mocks"
    ),
    "log_weight": Column("", "stat.weight", "natural logarithm of each draw's weight; they sum to one"),
    "best_chi2": Column(
        "", "stat.fit.chi2", "least chi square of the classical fit, over the bands that it used"
    ),
    "best_reduced_chi2": Column("", "stat.fit.chi2", "least chi square by degree of freedom"),
    "best_n_bands": Column("", "meta.number", "bands that the classical fit used"),
    "_healpix_29": Column("", "pos.healpix", "HEALPix pixel of order 29, nested, of the position"),
    # The training's history.
    "step": Column("", "meta.number", "batches trained on"),
    "epoch": Column("", "meta.number", "passes over the training rows"),
    "train_loss": Column("", "stat.fit.goodness", "mean of -ln density of training mocks since the last row"),
    "held_out_loss": Column("", "stat.fit.goodness", "mean of -ln density of held-out mocks"),
    "learning_rate": Column("", "arith.factor", "learning rate of the last step"),
    "rows_per_second": Column("1/s", "arith.rate", "training rows a second since the last row"),
    "seconds": Column("s", "time.duration", "time trained, interruptions left out"),
    "member": Column("", "meta.id.part", "network of the ensemble"),
    # Populations.
    "few_clusters": Column(
        "", "meta.code.qual", "whether so few clusters that the bands are mostly the prior's"
    ),
    "n_clusters": Column("", "meta.number", "clusters that the population is of"),
    "n_left_out": Column("", "meta.number", "clusters without draws, or left out by a flag"),
    "medians": Column("", "stat.value", "share of posterior medians per dex (per dex^2 of joint tables)"),
    "low": Column("", "stat.value;stat.min", "lower edge of the bin"),
    "high": Column("", "stat.value;stat.max", "upper edge of the bin"),
    **{
        name: Column("", "stat.percentile", f"{share} quantile of the share of clusters per dex")
        for name, share in (
            ("q02", "2.5 %"),
            ("q16", "16 %"),
            ("q50", "50 %"),
            ("q84", "84 %"),
            ("q97", "97.5 %"),
        )
    },
}

_SUMMARIES = {
    "mean": ("{};stat.mean", "posterior mean"),
    "std": ("stat.stdev;{}", "posterior standard deviation"),
    "q02": ("stat.percentile;{}", "2.5 % quantile of the posterior"),
    "q16": ("stat.percentile;{}", "16 % quantile of the posterior"),
    "q50": ("{};stat.median", "posterior median"),
    "q84": ("stat.percentile;{}", "84 % quantile of the posterior"),
    "q97": ("stat.percentile;{}", "97.5 % quantile of the posterior"),
    "map": ("{};stat.max", "draw of highest posterior density"),
}


def describe(name: str) -> Column:
    """Unit, UCD and description of a column.

    Parameters
    ----------
    name : str
        A column's name, in any table of a run.

    Returns
    -------
    Column
        Empty for a name that is not known: a file may hold columns of the user's own.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    return _of_band(name) or _of_parameter(name) or Column()


def _of_band(name: str) -> Column | None:
    kind, _, band = name.partition("_")
    ucd = "phot.flux.density" + (f";{part}" if (part := spectral_part(band)) else "")
    if not band:
        return None
    return {
        "flux": Column("mJy", ucd, f"flux density in {band}"),
        "error": Column("mJy", f"stat.error;{ucd}", f"1-sigma error of the flux density in {band}"),
        "limit": Column("", f"meta.code.error;{ucd}", f"whether the flux in {band} is an upper limit"),
    }.get(kind)


_FORMS = (
    (rf"({_PARAMETER})", "{}", "{}"),
    (rf"published_({_PARAMETER})", "{}", "{}, as published with the catalogue"),
    (rf"mode_({_PARAMETER})", "{};stat.mean", "{}: mean of each mode"),
    (rf"mode_({_PARAMETER})_std", "stat.stdev;{}", "{}: standard deviation of each mode"),
    (rf"best_({_PARAMETER})", "{};stat.fit", "{}: of the grid's model with the least chi square"),
    (rf"bayes_({_PARAMETER})", "{};stat.mean", "{}: likelihood-weighted mean over the grid's models"),
    (
        rf"bayes_({_PARAMETER})_std",
        "stat.stdev;{}",
        "{}: likelihood-weighted deviation over the grid's models",
    ),
    (rf"true_({_PARAMETER})", "{}", "{}: truth of a held-out mock"),
    (
        rf"difference_({_PARAMETER})",
        "{};arith.diff",
        "{}: posterior median less published value; of pairs, the second less the first",
    ),
    (rf"({_PARAMETER})_low", "{};stat.min", "{}: lower edge of the bin"),
    (rf"({_PARAMETER})_high", "{};stat.max", "{}: upper edge of the bin"),
    *(
        (rf"{way}_({_PARAMETER})_{suffix}", ucd, "{}: " + text + of)
        for way, of in (("exact", ", on the exact grid"), ("network", ", of the stored draws alone"))
        for suffix, (ucd, text) in _SUMMARIES.items()
    ),
    *((rf"({_PARAMETER})_{suffix}", ucd, "{}: " + text) for suffix, (ucd, text) in _SUMMARIES.items()),
)
"""Pattern of the name, UCD and description; the parameter's own go into the braces."""


def _of_parameter(name: str) -> Column | None:
    for pattern, ucd, text in _FORMS:
        if found := re.fullmatch(pattern, name):
            of = PARAMETERS[found[1]]
            return Column(of.unit, ucd.format(of.ucd), text.format(of.description))
    published = name.removeprefix("published_")
    if published != name:
        return Column("", "meta.note", f"{published}, as published with the catalogue")
    return None


_PARTS = (
    *((100, ""), (200, "em.UV.100-200nm"), (300, "em.UV.200-300nm"), (400, "em.opt.U"), (500, "em.opt.B")),
    *((600, "em.opt.V"), (750, "em.opt.R"), (1000, "em.opt.I"), (1500, "em.IR.J"), (2000, "em.IR.H")),
    *((3000, "em.IR.K"), (4000, "em.IR.3-4um"), (8000, "em.IR.4-8um")),
)
"""Upper edge [nm] and UCD word of each part of the spectrum."""


@cache
def spectral_part(band: str) -> str:
    """UCD word of the part of the spectrum that a band lies in.

    Parameters
    ----------
    band : str
        Such as ``wfc3_f275w``: filters of HST and JWST bear their wavelength.

    Returns
    -------
    str
        Such as ``em.UV.200-300nm``; empty for another kind of name.
    """
    found = re.fullmatch(r"(\w+?)_f(\d{3})\w*", band)
    if found is None:
        return ""
    infrared = found[1].startswith("nircam") or int(found[2]) < 200
    wavelength = int(found[2]) * (10 if infrared else 1)
    return next((word for edge, word in _PARTS if wavelength < edge), "")
