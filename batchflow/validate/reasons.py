"""Why a posterior and a published value differ: a category for each object, by criteria that can be computed.

`deviance` is twice the log likelihood of our best model over that of the published parameters, where each
published value may move by half a step of its grid and all that is not published is free;
`deviance_colours` leaves the mass free too. Divided by s^2 a deviance is about what it would be with errors s
times as large, so `error_growth`, the s at which the published parameters come into the 95 % region (chi
square of as many degrees as values are published), says how much larger the errors would have to be for
both to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchflow.schema import Flag

Floats = NDArray[np.float64]
Names = NDArray[np.object_]
AGREES = {"log_age": 0.3, "log_mass": 0.3, "ebv": 0.1}
"""Largest difference of posterior median and published value that counts as agreement [dex; mag]."""
GROWTH = 2.0
"""Factor on the errors that noise models and aperture corrections may well be wrong by."""
BAD_FIT = 0.001
"""Chi square p-value below which parameters do not describe the photometry."""
MODE_REACH = 3.0
"""Standard deviations of a mode within which a published value lies in it."""

MEANINGS = {
    "not inferred": "no posterior",
    "agrees": f"median within {AGREES['log_age']} dex (E(B-V): {AGREES['ebv']} mag) of every published value",
    "photometry odd": "differs; flagged out of distribution or outside the training: suspect the photometry",
    "poor fit": f"differs; no model of ours describes the photometry (p < {BAD_FIT})",
    "outside prior": "differs; a published value lies outside our prior, so no posterior can hold it",
    "another mode": "differs; published value and median lie in different modes of the posterior",
    "mass scale": "differs; published age and reddening describe the colours, but not with the published "
    "mass: distance, aperture correction or initial mass function",
    "noise floor": "differs; published age and reddening are in the 95 % region, or would be with "
    f"{GROWTH:g} times the errors",
    "model library": "differs; our best model describes the photometry, ours at the published parameters "
    "does not: tracks, metallicity, nebular emission or extinction law",
}
"""Categories in the order in which they are tried: the first that holds is the object's."""


def classify(columns: Mapping[str, Any]) -> Names:
    """Category of each object.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (n_objects,)
        ``difference_<p>`` (median less published, NaN where not published), ``flags``, ``best_pvalue``,
        ``published_outside_prior``, ``published_mode``, ``median_mode``, ``published_mode_distance``,
        ``error_growth_colours``, ``log_mass_at_published``, ``published_log_mass``.

    Returns
    -------
    ndarray of str, shape (n_objects,)
        Of `MEANINGS`.
    """
    flags = np.asarray(columns["flags"])
    odd = Flag.OUT_OF_DISTRIBUTION | Flag.OUTSIDE_TRAINING
    elsewhere = columns["published_mode"] != columns["median_mode"]
    # Where the mass alone is published, no colour speaks against it.
    allowed = ~(columns["error_growth_colours"] > GROWTH)
    scale = columns["log_mass_at_published"] - columns["published_log_mass"]
    tests = {
        "not inferred": (flags & Flag.NOT_INFERRED) > 0,
        "agrees": _agrees(columns),
        "photometry odd": (flags & odd) > 0,
        "poor fit": columns["best_pvalue"] < BAD_FIT,
        "outside prior": np.asarray(columns["published_outside_prior"]),
        "another mode": elsewhere & (columns["published_mode_distance"] <= MODE_REACH),
        "mass scale": allowed & (np.abs(scale) > AGREES["log_mass"]),
        "noise floor": allowed,
    }
    found: Names = np.full(len(flags), "model library", dtype=object)
    for name, holds in reversed(tests.items()):
        found[np.asarray(holds, dtype=bool)] = name
    return found


def _agrees(columns: Mapping[str, Any]) -> NDArray[np.bool_]:
    near = [
        np.isnan(columns[f"difference_{name}"]) | (np.abs(columns[f"difference_{name}"]) <= most)
        for name, most in AGREES.items()
    ]
    return np.asarray(np.logical_and.reduce(near))


def error_growth(deviance: Floats, published: NDArray[np.int64]) -> Floats:
    """Factor on all errors at which a deviance of so many published values comes into the 95 % region.

    Parameters
    ----------
    deviance : ndarray, shape (n_objects,)
        Twice the difference of log likelihoods.
    published : ndarray of int, shape (n_objects,)
        Number of published values.

    Returns
    -------
    ndarray, shape (n_objects,)
        Below one where they lie in the region as it is; NaN where nothing is published.
    """
    from scipy.stats import chi2

    reach = chi2.ppf(0.95, np.maximum(published, 1))
    return np.where(published > 0, np.sqrt(np.maximum(deviance, 0.0) / reach), np.nan)
