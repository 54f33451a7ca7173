"""What each column of the tables of ``validation/`` is.

Apart from `columns`, because these names are common: a `count` in a person's own query is another thing.

Where a column is of a row's ``parameter``, its unit is dex, or mag for E(B-V).
"""

from __future__ import annotations

import re

from batchflow.columns import PARAMETERS, Column, describe

VALIDATION: dict[str, tuple[str, str, str]] = {
    "parameter": (
        "",
        "meta.id",
        "parameter of the row; joint: all together (TARP), hpd: by the posterior density",
    ),
    "estimate": ("", "meta.id", "q50, the posterior median; map, the most probable draw; or a method"),
    "reference": ("", "meta.id", "what the estimate is compared with"),
    "class": ("", "src.class", "visual classes that the row counts"),
    "bands": ("", "meta.id", "number of bands of the clusters that the row counts"),
    "modes": ("", "meta.id", "number of modes of the clusters that the row counts"),
    "n": ("", "meta.number", "clusters, or held-out mocks, that the row counts"),
    "n_lost": ("", "meta.number", "held-out mocks that could not be inferred"),
    "n_asked": ("", "meta.number", "held-out mocks that were asked for"),
    "bias": ("", "stat.value;stat.median", "median of the posterior median less the truth"),
    "median": ("", "stat.value;stat.median", "median of the estimate less the reference (published)"),
    "scatter": ("", "stat.mad", "1.48 times the median absolute deviation of the difference"),
    "rms": ("", "stat.rms", "root mean square of the difference"),
    "coverage_68": ("", "stat.probability", "share of truths in the central 68 % interval"),
    "coverage_95": ("", "stat.probability", "share of truths in the central 95 % interval"),
    "coverage_68_error": ("", "stat.error", "standard error of coverage_68, were the posterior right"),
    "coverage_95_error": ("", "stat.error", "standard error of coverage_95, were the posterior right"),
    "rank_pvalue": ("", "stat.probability", "Kolmogorov-Smirnov p-value of uniform ranks of the truths"),
    "within_0.3": ("", "stat.probability", "share of differences of at most 0.3"),
    "beyond_1": ("", "stat.probability", "share of differences above 1"),
    "in_68": ("", "stat.probability", "share of references (published) in the central 68 % interval"),
    "in_95": ("", "stat.probability", "share of references (published) in the central 95 % interval"),
    "efficiency_network": ("", "stat.fit.goodness", "efficiency before any rescue"),
    "way": ("", "meta.id", "delivered, as `infer` writes; weighted, none rescued; network, no likelihood"),
    "meaning": ("", "meta.note", "the row in words"),
    "reason": ("", "meta.code.class", "why the median differs from the published values"),
    "share": ("", "stat.probability", "share of the survey's objects"),
    "by": ("", "meta.id", "what the mocks or clusters are grouped by"),
    "stratum": ("", "meta.id", "group, by what is seen of a mock"),
    "verdict": ("", "meta.code.qual", "what the tests say of the posteriors of the group"),
    "tests": ("", "meta.number", "tests that `pvalue_corrected` allows for"),
    "ks_pvalue": ("", "stat.probability", "Kolmogorov-Smirnov p-value of uniform ranks of the truths"),
    "pvalue": ("", "stat.probability", "p-value of shift and dispersion of the ranks together"),
    "pvalue_corrected": ("", "stat.probability", "p-value of the least of all tests"),
    "shift_z": (
        "",
        "stat.value",
        "shift of the ranks in standard deviations; > 0: posteriors too low (hpd < 0: draws too far out)",
    ),
    "dispersion_z": ("", "stat.value", "spread of the ranks in standard deviations; > 0: too narrow"),
    "gap_nats": ("", "stat.value", "ln exact less ln network density at the truth"),
    "kl_exact": ("", "stat.value", "divergence of the network from the exact posterior [nats]"),
    "level": ("", "stat.probability", "level of the interval"),
    "coverage": ("", "stat.probability", "share of truths in the interval"),
    "error": ("", "stat.error", "standard error of the value, or of a right posterior's coverage"),
    "low": ("", "stat.value;stat.min", "lower edge of the bin of ranks"),
    "high": ("", "stat.value;stat.max", "upper edge of the bin of ranks"),
    "count": ("", "meta.number", "mocks whose rank lies in the bin"),
    "expected": ("", "meta.number;stat.mean", "mocks in the bin, were the posterior right"),
    "sigma": ("", "stat.stdev", "standard deviation of the count, were the posterior right"),
    "figure": ("", "meta.id", "name of the figure"),
    "value": ("", "stat.value", "the figure: a mean over n mocks, or what its name says"),
    "ideal": ("", "stat.value", "value of perfect posteriors; null where there is none"),
    # A row a held-out mock.
    "mock": ("", "meta.id;meta.main", "held-out mock"),
    "signal": ("", "stat.snr", "signal-to-noise ratio of the band that has the highest; limits left out"),
    "depth": (
        "mJy",
        "stat.error;phot.flux.density;stat.median",
        "error of a source without flux, median band",
    ),
    "method": ("", "meta.id", "how the delivered draws were had: flow, more draws, or grid"),
    # A row an object with published values.
    "published_mode": (
        "",
        "meta.number",
        "mode that the published values are nearest to; 0 the heaviest, -1 none",
    ),
    "median_mode": ("", "meta.number", "mode that the posterior median of the age is nearest to; -1 none"),
    "published_mode_weight": ("", "stat.probability", "posterior probability of published_mode"),
    "published_mode_distance": (
        "",
        "stat.value",
        "of the published values from the centre of published_mode, in its standard deviations",
    ),
    "chi2_best": ("", "stat.fit.chi2", "chi square of our likeliest model"),
    "best_pvalue": ("", "stat.fit.goodness", "p-value of chi2_best; detected bands less parameters"),
    "chi2_published_colours": (
        "",
        "stat.fit.chi2",
        "chi square of our likeliest model at the published age and reddening, mass free",
    ),
    "published_colours_pvalue": ("", "stat.fit.goodness", "p-value of chi2_published_colours"),
    "chi2_published": ("", "stat.fit.chi2", "chi square of our likeliest model at all published values"),
    "published_pvalue": ("", "stat.fit.goodness", "p-value of chi2_published"),
    "log_mass_at_published": (
        "dex(solMass)",
        "phys.mass",
        "log10 of the mass formed that our model needs at the published age and reddening",
    ),
    "deviance": (
        "",
        "stat.likelihood",
        "twice ln likelihood of our best model less that at all published values",
    ),
    "deviance_colours": ("", "stat.likelihood", "deviance at the published age and reddening, mass free"),
    "error_growth": (
        "",
        "arith.factor",
        "on all errors, to bring the published values into the 95 % region; < 1: they lie in it",
    ),
    "error_growth_colours": (
        "",
        "arith.factor",
        "error_growth of the published age and reddening, mass free",
    ),
    "n_published": ("", "meta.number", "values published of the object"),
    "published_outside_prior": ("", "meta.code", "whether a published value lies outside the prior"),
    # Predictive checks.
    "name": ("", "meta.id", "of the survey or galaxy; all; held out, of mocks"),
    "n_inferred": ("", "meta.number", "clusters with a posterior predictive p-value"),
    "ppc_median": ("", "stat.fit.goodness;stat.median", "median posterior predictive p-value"),
    "ppc_ks_pvalue": ("", "stat.probability", "p-value of ppc_pvalue being distributed as the mocks'"),
    "ood_excess_pvalue": (
        "",
        "stat.probability",
        "p-value of as many clusters with ood_pvalue below 0.001, if it were that of mocks",
    ),
    "ood_excess_corrected": (
        "",
        "stat.probability",
        "ood_excess_pvalue, for the least of all surveys or galaxies",
    ),
    "efficiency_median": ("", "stat.fit.goodness;stat.median", "median efficiency"),
    **{
        flag: ("", "stat.probability", f"share of clusters with the flag {flag.upper()}")
        for flag in ("poor_fit", "outside_training", "more_draws", "grid_posterior", "low_efficiency")
    },
    # Clusters seen in two surveys.
    "separation": ("arcsec", "pos.angDistance", "of the pair, the surveys' median shift taken out"),
    "pull_median": ("", "stat.value;stat.median", "median pull"),
    "pull_scatter": ("", "stat.mad", "1.48 MAD of the pulls; 1 where errors are right and independent"),
    "pull_beyond_3": ("", "stat.probability", "share of pulls above 3"),
    "agree_95": ("", "stat.probability", "share of pairs whose 95 % intervals touch"),
}
"""By name: unit, UCD and description."""

_RANKED = r"rank_(\w+)_(delivered|weighted|network)"
FORMS = (
    (
        _RANKED.replace(r"\w+", "hpd"),
        "",
        "stat.rank",
        "share of the posterior denser than the truth (way {1})",
    ),
    (_RANKED.replace(r"\w+", "joint"), "", "stat.rank", "TARP's credibility of all parameters (way {1})"),
    (_RANKED, "", "stat.rank", "rank of the true {0} among the draws, 0 to 1 (way {1})"),
    ("c2st_exact", "", "stat.fit.goodness", "a classifier's accuracy in telling two exact samples apart"),
    (
        r"c2st_(\w+)",
        "",
        "stat.fit.goodness",
        "a classifier's accuracy in telling draws from exact ones (way {0})",
    ),
    (r"pull_(\w+)", "", "stat.value", "difference_{0} over both 68 % half widths in quadrature"),
    (r"agree_95_(\w+)", "", "meta.code", "whether the two 95 % intervals of {0} touch"),
    (r"(galaxy|survey|object_id|n_bands|n_modes|flags)_([12])", "", "meta", "{0} of cluster {1} of a pair"),
    (r"ppc_below_0(\d+)", "", "stat.probability", "share of posterior predictive p-values below 0.0{0}"),
    (r"ood_below_0(\d+)", "", "stat.probability", "share of ood_pvalue below 0.0{0}"),
)
"""Pattern of the name, unit, UCD and description; the pattern's groups go into the braces."""


def describe_validation(name: str) -> Column:
    """Unit, UCD and description of a column of the validation.

    Parameters
    ----------
    name : str
        A column's name, in any table of ``validation/``.

    Returns
    -------
    Column
        Empty for a name that is not known.
    """
    if name in VALIDATION:
        return Column(*VALIDATION[name])
    for pattern, unit, ucd, text in FORMS:
        if found := re.fullmatch(pattern, name):
            return Column(unit, ucd, text.format(*found.groups()))
    return _of_pair(name) or describe(name)


def _of_pair(name: str) -> Column | None:
    parameter, _, place = name.rpartition("_")
    if parameter not in PARAMETERS or place not in ("1", "2"):
        return None
    of = PARAMETERS[parameter]
    text = f"{of.description}: posterior median of cluster {place} of a pair"
    return Column(of.unit, f"{of.ucd};stat.median", text)
