"""Extinction by the Milky Way in front of a galaxy, by band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchflow.physics.bands import Band
from batchflow.physics.embedded import EmbeddedEngine

TYPICAL_LOG_AGE = 7.5
"""Age whose solar spectrum stands for a catalogue's clusters [log10 yr]."""


def foreground_extinction(
    bands: Sequence[str | Band],
    ebv: float,
    law: str = "F99",
    rv: float = 3.1,
    log_age: float = TYPICAL_LOG_AGE,
) -> dict[str, float]:
    """Magnitudes to take off a catalogue that was not corrected for the Milky Way.

    Parameters
    ----------
    bands : sequence of str or Band
        Names of shipped bands, or curves of one's own.
    ebv : float
        E(B-V) of the foreground [mag], for example Schlafly & Finkbeiner 2011 (ApJ 737, 103).
    law : str
        Name of a dust law; F99 at R(V) = 3.1 is the one that those authors recommend.
    rv : float
        A(V) / E(B-V).
    log_age : float
        Age of the solar-metallicity spectrum that the bands average over [log10 yr]. Between 3 Myr and
        10 Gyr the result differs by at most 6 % in the bands from F275W to F160W.

    Returns
    -------
    dict of str to float
        A [mag] of each band; a corrected flux is the flux times 10^(0.4 A).

    Raises
    ------
    UserError
        When E(B-V), band or law is outside what the engine knows.
    """
    engine = EmbeddedEngine(bands, extinction=law, rv=rv)
    clear, dimmed = engine.fluxes({"log_age": log_age, "ebv": np.array([0.0, ebv])})
    return dict(zip(engine.bands, (-2.5 * np.log10(dimmed / clear)).tolist(), strict=True))
